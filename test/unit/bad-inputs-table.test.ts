/** Every case of bad input over MQTT, its transports and AMQP is named by a test: `B01: ...`, or `[B01]`. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const TESTS = fileURLToPath(new URL('..', import.meta.url))

/** The first and the last of a run of numbers, and what is not among them. */
const GROUPS: [what: string, first: number, last: number, without: number[]][] = [
  ['the fixed header and framing', 1, 11, []],
  ['CONNECT', 13, 38, [19, 27, 35]],
  ['PUBLISH and its flows', 39, 62, [44, 49, 52, 60]],
  ['SUBSCRIBE', 63, 76, [66]],
  ['WebSocket and TLS', 78, 87, [83]],
  ['AMQP', 92, 103, [95]]
]

const numbered = (n: number) => `B${String(n).padStart(2, '0')}`

/** The text between quotes of the lines of a test file that name a case. */
function namesIn(file: string): string[] {
  const text = readFileSync(join(TESTS, file), 'utf8')
  return [...text.matchAll(/(['`])((?:(?!\1)[^\\\n]|\\.)*)\1/g)].map(found => found[2]!)
}

const files = readdirSync(TESTS, { recursive: true, encoding: 'utf8' })
const names = files.filter(file => file.endsWith('.test.ts')).flatMap(namesIn)
const named = new Set(names.flatMap(name => name.match(/\bB\d{2,3}\b/g) ?? []))

describe.each(GROUPS)('bad input to %s', (_what, first, last, without) => {
  const cases = Array.from({ length: last - first + 1 }, (_, i) => first + i)
  it.each(cases.filter(n => !without.includes(n)).map(numbered))(
    '%s stands in the name of a test',
    id => {
      expect(named).toContain(id)
    }
  )
})
