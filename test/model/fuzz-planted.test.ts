/**
 * Faults that are planted into a copy of the sources: the fuzz tests must find each of them soon. Vitest loads the
 * copy as it loads the original.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import type { Protocol } from '../support/fuzz-case.ts'
import type * as Run from '../support/fuzz-run.ts'
import { fuzz } from '../support/fuzz-tests.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Inputs until it must be found: a few seconds' worth. */
const COUNT_MAX = 8_000

interface Plant {
  readonly name: string
  readonly protocol: Protocol
  readonly file: string
  readonly from: string
  readonly to: string
  /** What the finding says. */
  readonly says: RegExp
}

const PLANTS: readonly Plant[] = [
  {
    name: 'a missing length check in the MQTT codec',
    protocol: 'mqtt',
    file: 'src/mqtt/codec/publish.ts',
    from: '    if (topicEnd > end) throw tooShort()\n',
    to: '',
    says: /answered otherwise|bug of a front-end|RangeError|Error/
  },
  {
    name: 'a missing length check in the AMQP codec',
    protocol: 'amqp',
    file: 'src/amqp/codec/methods.ts',
    from: "  else if (kind === 'longstr' || kind === 'table') stop += buffer.readUInt32BE(at)\n  if (stop > end) throw syntaxError('method cut short')\n",
    to: "  else if (kind === 'longstr' || kind === 'table') stop += buffer.readUInt32BE(at)\n",
    says: /answered otherwise|bug of a front-end|RangeError|Error/
  },
  {
    name: 'a channel that keeps its open deliveries when it closes',
    protocol: 'amqp',
    file: 'src/amqp/channel.ts',
    from: '    this.finishUpTo(this.lastTag, FAIL)\n    if (this.owed.length === 0) this.stopWaiting()\n',
    to: '    if (this.owed.length === 0) this.stopWaiting()\n',
    says: /unacked/
  },
  {
    name: 'an inbound packet identifier that PUBREL does not free',
    protocol: 'mqtt',
    file: 'src/core/state.ts',
    from: '    return this.sessions.get(sessionId)?.inbound?.delete(packetId) ?? false\n',
    to: '    return this.sessions.get(sessionId)?.inbound?.has(packetId) ?? false\n',
    says: /identifier/
  },
  {
    name: 'a connection that stays on the list of publishers',
    protocol: 'mqtt',
    file: 'src/mqtt/connection.ts',
    from: '    broker.publishers.delete(this)\n',
    to: '',
    says: /publishers are known/
  }
]

const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** A copy of sources and test support with the fault in it; returns its fuzzer. */
async function plant({ file, from, to }: Plant): Promise<typeof Run> {
  const folder = mkdtempSync(join(tmpdir(), 'motemq-planted-'))
  folders.push(folder)
  for (const part of ['package.json', 'tsconfig.json', 'src', 'test/support']) {
    cpSync(join(ROOT, part), join(folder, part), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  const text = readFileSync(join(folder, file), 'utf8')
  const parts = text.split(from)
  // The source has changed: the fault is to be planted anew.
  if (parts.length !== 2)
    throw new Error(`${file} has the text to be replaced ${parts.length - 1} times`)
  writeFileSync(join(folder, file), parts.join(to))
  return await import(pathToFileURL(join(folder, 'test/support/fuzz-run.ts')).href)
}

describe('a planted fault', () => {
  it.each(PLANTS)('is found: $name', async each => {
    const { Fuzzer } = await plant(each)
    const { failure, inputs } = await fuzz(new Fuzzer(each.protocol, 1), COUNT_MAX)
    process.stdout.write(`${each.name}: found by input ${inputs}\n`)
    expect(failure).toMatch(each.says)
  })
})
