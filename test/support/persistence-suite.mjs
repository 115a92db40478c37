/**
 * The abstract suite of aedes-persistence over the journal, for `node --test`: each test in a folder of its own.
 * argv[2], or MOTEMQ_SUITE: `promises` (as Aedes 1 takes it) or `callbacks` (as Aedes before 1 did).
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createCallbackPersistence, createPersistence } from 'motemq/persistence'

const abstract = createRequire(import.meta.url)('aedes-persistence/abstract.js')
const root = mkdtempSync(join(tmpdir(), 'motemq-suite-'))
let count = 0
after(() => rmSync(root, { recursive: true, force: true }))

const isCallbacks = process.env['MOTEMQ_SUITE'] === 'callbacks'
const make = isCallbacks ? createCallbackPersistence : createPersistence
abstract({
  test,
  persistence: () => make({ folder: join(root, String(count++)) }),
  ...(isCallbacks ? { waitForReady: true } : { testAsync: true })
})
