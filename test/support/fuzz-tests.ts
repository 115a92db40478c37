/** What the fuzz tests of both protocols do: the inputs that failed once, then new ones. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { type Protocol, read, type WrittenCase } from './fuzz-case.ts'
import { type FuzzResult, Fuzzer } from './fuzz-run.ts'

/** Of each protocol. The full tier and the long one set more. */
const QUICK_COUNT = 4_000
const COUNT = Number(process.env['MOTEMQ_FUZZ'] ?? QUICK_COUNT)
const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
/** Inputs between two turns of the event loop, which the test runner needs. */
const PIECE = 250
/** An input takes about a millisecond; ten of them are a hang. */
const TIMEOUT_MS = 60_000 + COUNT * 10

const FOLDER = fileURLToPath(new URL('../model/fuzz-corpus', import.meta.url))

/** One JSON line an input. */
function corpus(protocol: Protocol): WrittenCase[] {
  if (!existsSync(FOLDER)) return []
  return readdirSync(FOLDER)
    .filter(name => name.startsWith(protocol) && name.endsWith('.jsonl'))
    .flatMap(name => readFileSync(`${FOLDER}/${name}`, 'utf8').split('\n'))
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as WrittenCase)
}

/** Inputs, in pieces; stops at the first that fails. */
export async function fuzz(fuzzer: Fuzzer, count: number): Promise<FuzzResult> {
  const { result } = fuzzer
  while (result.inputs < count) {
    if (!fuzzer.run(Math.min(PIECE, count - result.inputs))) break
    await new Promise<void>(resolve => setImmediate(resolve))
  }
  return result
}

function tell({ protocol, seed, inputs, runs, inputBytes, outputBytes, valid }: FuzzResult): void {
  process.stdout.write(
    `fuzz ${protocol}: MOTEMQ_SEED=${seed}, ${inputs} inputs in ${runs} runs, ${inputBytes} bytes in, ` +
      `${outputBytes} out, ${valid} served to their end\n`
  )
}

/** `answers`: what a broker must have said often, or the inputs never came so far. */
export function fuzzTests(protocol: Protocol, answers: readonly string[]): void {
  const kept = corpus(protocol)
  it(`answers what failed once (${kept.length} inputs) as it should`, () => {
    const fuzzer = new Fuzzer(protocol, 0)
    const wrong = kept.flatMap(each => {
      const found = fuzzer.attempt(read(each))
      return found === '' ? [] : [`${each.why}: ${found}`]
    })
    expect(wrong).toEqual([])
  })

  it(
    `takes ${COUNT} inputs, right and wrong, cut in any way, and nothing of them is left`,
    async () => {
      const result = await fuzz(new Fuzzer(protocol, SEED), COUNT)
      tell(result)
      expect(result.failure).toBe('')
      const missing = answers.filter(
        name => (result.answers.get(name) ?? 0) < Math.floor(COUNT / 1_000)
      )
      expect(missing).toEqual([])
    },
    TIMEOUT_MS
  )
}
