import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const SUITE = fileURLToPath(new URL('../support/persistence-suite.mjs', import.meta.url))
const abstract = readFileSync(
  createRequire(import.meta.url).resolve('aedes-persistence/abstract.js'),
  'utf8'
)
/** As many as the suite holds: none may be left out. */
const COUNT = [...abstract.matchAll(/^ {2}test\('/gm)].length

describe('the abstract suite of aedes-persistence passes, every test of it,', () => {
  for (const kind of ['promises', 'callbacks']) {
    test(`with ${kind}`, async () => {
      const child = spawn(process.execPath, ['--test', '--test-reporter=tap', SUITE], {
        env: { ...process.env, MOTEMQ_SUITE: kind, NODE_OPTIONS: '' },
        stdio: ['ignore', 'pipe', 'pipe']
      })
      let text = ''
      child.stdout.on('data', (chunk: Buffer) => {
        text += String(chunk)
      })
      const [code] = (await once(child, 'close')) as [number | null]
      const counts = new Map(
        [...text.matchAll(/^# (\w+) (\d+)$/gm)].map(([, name, count]) => [name, Number(count)])
      )
      const failed = [...text.matchAll(/^\s*not ok .*$/gm)].map(([line]) => line)
      expect(failed).toEqual([])
      expect(Object.fromEntries(counts)).toMatchObject({
        tests: COUNT,
        pass: COUNT,
        fail: 0,
        cancelled: 0,
        skipped: 0,
        todo: 0
      })
      expect([code, COUNT]).toEqual([0, 50])
    }, 60_000)
  }
})
