/**
 * Fuzz tests: inputs, one seed after the other, each in three cuts. What is looked at: nothing is thrown and no
 * front-end counts a bug of its own; what the broker sends is well-formed and was asked for; the three cuts are
 * answered alike; nothing of an input is left when its connections are gone; the witnesses are served.
 */
import { amqpSteps } from './fuzz-amqp.ts'
import { checkAmqp, type Told } from './fuzz-amqp-check.ts'
import {
  type Case,
  type Cutting,
  type Event,
  mutate,
  type Protocol,
  shrink,
  type Step,
  write
} from './fuzz-case.ts'
import { mqttSteps } from './fuzz-mqtt.ts'
import { checkMqtt, freeIds, splitPackets } from './fuzz-mqtt-check.ts'
import { Finding, FUZZ_LIMITS, FuzzRig, type Transcript } from './fuzz-rig.ts'
import { chance } from './fuzz-sketch.ts'
import { type Random, seededRandom } from './random.ts'

const CUTTINGS: readonly Cutting[] = ['joined', 'random', 'bytes']
/** Byte by byte takes as long as all else: so many inputs are cut like that, one of them. */
const BYTES_EVERY = 4
/** The witnesses are asked after so many inputs. */
const ASK_EVERY = 16
/** Bytes that a broker may send for an input, and how many more for each of its bytes. */
const OUTPUT_BYTES_MAX = 64 * 1024
const OUTPUT_A_BYTE = 64

export interface FuzzResult {
  readonly protocol: Protocol
  readonly seed: number
  inputs: number
  /** Runs: each input is cut in several ways. */
  runs: number
  inputBytes: number
  outputBytes: number
  /** Inputs whose connections were all served to the end. */
  valid: number
  /** What each kind of answer was told how often. */
  readonly answers: Map<string, number>
  /** The first failure, with a line for the corpus. */
  failure: string
}

const STEPS = { mqtt: mqttSteps, amqp: amqpSteps } as const satisfies Record<
  Protocol,
  (random: Random) => Step[]
>

/** The input of a seed. */
export function inputOf(protocol: Protocol, seed: number): Case {
  const random = seededRandom(Math.imul(seed, 0x9e3779b1) ^ (protocol === 'mqtt' ? 1 : 2))
  const steps = STEPS[protocol](random)
  if (chance(random, 0.4)) return { protocol, steps }
  return { protocol, steps: mutate(random, steps, () => STEPS[protocol](random)) }
}

export class Fuzzer {
  readonly protocol: Protocol
  readonly result: FuzzResult
  #rig: FuzzRig | null = null
  #untilAsked = ASK_EVERY

  constructor(protocol: Protocol, seed: number) {
    this.protocol = protocol
    this.result = {
      protocol,
      seed,
      inputs: 0,
      runs: 0,
      inputBytes: 0,
      outputBytes: 0,
      valid: 0,
      answers: new Map(),
      failure: ''
    }
  }

  /** So many inputs more. False: one failed. */
  run(count: number): boolean {
    const { result } = this
    for (let i = 0; i < count; i++) {
      const seed = result.seed + result.inputs++
      const input = inputOf(this.protocol, seed)
      const wrong = this.attempt(input, false)
      if (wrong === '') continue
      result.failure = this.#explain(input, seed, wrong)
      return false
    }
    return true
  }

  /** '' when nothing is wrong with an input, else what. */
  attempt(input: Case, isThorough = true): string {
    const { result } = this
    // A fault of a peer is an error object: half of its cost are the frames that nobody reads.
    Error.stackTraceLimit = 8
    this.#rig ??= new FuzzRig()
    const rig = this.#rig
    let cutting: Cutting = 'joined'
    try {
      let first: string[] | null = null
      for (cutting of CUTTINGS) {
        if (cutting === 'bytes' && !isThorough && result.inputs % BYTES_EVERY !== 0) continue
        const transcript = rig.run(input, cutting, 1)
        const seen = comparable(this.#look(transcript), input)
        first ??= seen
        const at = seen.findIndex((_, index) => !isSame(seen, first!, index))
        if ((input.protocol === 'amqp' || seen.includes('true')) && isHeldUp(input)) continue
        if (at >= 0 || seen.length !== first.length) {
          const index = at < 0 ? seen.length : at
          throw new Finding(`answered otherwise: ${seen[index]} instead of ${first[index]}`)
        }
      }
      if (--this.#untilAsked <= 0) {
        this.#untilAsked = ASK_EVERY
        rig.askWitnesses()
      }
      return ''
    } catch (error) {
      this.#rig = null
      rig.loop.clear()
      const text = error instanceof Finding ? error.message : (error as Error).stack
      return `${cutting}: ${text}`
    }
  }

  /** Checks a transcript; returns what must be the same however the input is cut. */
  #look({ inputs, outputs, isEnded, inbound, witnesses }: Transcript): string[] {
    const { result } = this
    const seen: string[] = []
    result.runs++
    let sentBytes = 0
    let gotBytes = 0
    inputs.forEach((input, index) => {
      const output = outputs[index]!
      sentBytes += input.length
      gotBytes += output.length
      if (this.protocol === 'mqtt') {
        const answers = checkMqtt(input, output, isEnded[index]!, FUZZ_LIMITS)
        for (const { type } of answers) this.#count(String(type))
        const known = inbound[index] ?? []
        const kept = [...freeIds(input, answers)].filter(id => known.includes(id))
        if (kept.length > 0) throw new Finding(`identifier ${kept} is kept behind its PUBCOMP`)
        // How deliveries and answers lie between each other hangs on the cut where something waits for the disk.
        seen.push(hexOf(output, false), `${isEnded[index]}`, hexOf(output, true))
      } else {
        const told = checkAmqp(input, output, isEnded[index]!)
        for (const { name } of told) this.#count(name)
        seen.push(...plain(told).filter(line => !isTimely(line, input, told)))
      }
      seen.push(`${isEnded[index]}`)
    })
    if (gotBytes > OUTPUT_BYTES_MAX + OUTPUT_A_BYTE * sentBytes) {
      throw new Finding(`${gotBytes} bytes for ${sentBytes}`)
    }
    if (this.protocol === 'mqtt') {
      seen.push(
        witnesses.mqtt.toString('hex'),
        ...plain(checkAmqp(null, witnesses.amqp, false), true)
      )
    }
    if (!isEnded.includes(true)) result.valid++
    result.inputBytes += sentBytes
    result.outputBytes += gotBytes
    return seen
  }

  #count(name: string): void {
    const { answers } = this.result
    answers.set(name, (answers.get(name) ?? 0) + 1)
  }

  /** The failure made small, with its line for the corpus. */
  #explain(input: Case, seed: number, wrong: string): string {
    const kind = kindOf(wrong)
    // A second time: else it hangs on an input before it, and cannot be made small.
    const isAlone = kindOf(this.attempt(input)) === kind
    const small = isAlone ? shrink(input, smaller => kindOf(this.attempt(smaller)) === kind) : input
    const about = isAlone ? this.attempt(small) : `${wrong} (only behind other inputs)`
    const line = JSON.stringify(write(small, wrong.split('\n')[0]!.slice(0, 120)))
    return `MOTEMQ_SEED=${seed} (${this.protocol}): ${about}\nfor the corpus:\n${line}`
  }
}

/**
 * What is read while a publisher is held up hangs on the cut; so does what it is too late for when a fault is read, and
 * in how many turns a consumer's output, which is bounded in one, is filled.
 */
function isHeldUp({ steps }: Case): boolean {
  return steps.some(({ event }) => HOLDING.has(event))
}

/** The packets of an output that are deliveries, or those that are not but PINGRESP, which no acknowledgement waits for. */
function hexOf(output: Buffer, deliveries: boolean): string {
  const { packets } = splitPackets(output)
  const wanted = packets.filter(({ first }) => {
    return first >> 4 !== 13 && [3, 6].includes(first >> 4) === deliveries
  })
  return wanted.map(({ first, body }) => first.toString(16) + body.toString('hex')).join('')
}

/**
 * A peer that is closed for a fault may have got what the broker had for it before the fault was read, or not: that hangs
 * on whether both came in one read. What it got was right: one answer is the beginning of the other.
 */
function isSame(seen: readonly string[], first: readonly string[], index: number): boolean {
  const [a = '', b = ''] = [seen[index], first[index]]
  if (a === b) return true
  const isClosed = seen[index + 1] === 'true' && first[index + 1] === 'true'
  return isClosed && (a.startsWith(b) || b.startsWith(a))
}

/** Whether a SUBSCRIBE is read before a held PUBLISH is answered hangs on the cut, not what is answered in all. */
function comparable(seen: string[], input: Case): string[] {
  if (!isHeldUp(input)) return seen
  return seen.map(line => (/^[0-9a-f]+$/.test(line) ? line.match(/../g)!.sort().join('') : line))
}

const HOLDING: ReadonlySet<Event> = new Set(['pause', 'alarm', 'stall', 'hold-disk'])

/** The same fault, with other numbers. */
function kindOf(wrong: string): string {
  const [first = ''] = wrong.split('\n')
  return first
    .replace(/^\w+: /, '')
    .replace(/answered otherwise.*/, 'answered otherwise')
    .replaceAll(/[0-9a-f]+/g, '#')
}

const CONSUME = Buffer.from([0, 60, 0, 20])
const GET = Buffer.from([0, 60, 0, 70])
const CLOSES: ReadonlySet<string> = new Set(['10.50', '10.51', '20.40', '20.41'])

/**
 * Whether a line hangs on what comes in the same read: consumers who have credit again are served at its end. So
 * what is counted or got behind it in a queue may be delivered already; and nothing is when a channel has closed by then.
 */
function isTimely(line: string, input: Buffer, told: readonly Told[]): boolean {
  if (!input.includes(CONSUME)) return false
  const [, name = ''] = line.split(' ')
  if (name === '50.11' || name === '50.31' || name === '50.41') return true
  if (name !== '60.60' && name !== '60.71' && name !== '60.72') return false
  return input.includes(GET) || told.some(each => CLOSES.has(each.name))
}

/**
 * What a client is told, in lines that do not hang on the cut: confirms, which a read has together, count one by
 * one, and not on a channel that ended meanwhile. `untagged`: without delivery tags, which go on from input to input.
 */
function plain(told: readonly Told[], untagged = false): string[] {
  const lines: string[] = []
  const confirms = new Map<number, string[]>()
  for (const { channel, name, bytes } of told) {
    if (name === '60.80' || name === '60.120') {
      confirm(confirms, channel, name, bytes)
      continue
    }
    if (name === '20.40' || name === '20.41') confirms.delete(channel)
    if (name === '10.50' || name === '10.51') confirms.clear()
    if (untagged && name === '60.60') bytes.fill(0, bytes[0]! + 1, bytes[0]! + 9)
    lines.push(`${channel} ${name} ${bytes.toString('hex')}`)
  }
  for (const [channel, each] of confirms) lines.push(`${channel}: ${each.sort().join()}`)
  return lines
}

function confirm(
  confirms: Map<number, string[]>,
  channel: number,
  name: string,
  bytes: Buffer
): void {
  const known = confirms.get(channel) ?? []
  confirms.set(channel, known)
  const last = bytes.readUInt32BE(4)
  const isMultiple = (bytes[8]! & 1) === 1
  for (let at = isMultiple ? 1 : last; at <= last; at++) {
    const isNew = !known.some(each => each.startsWith(`${at} `))
    if (isNew) known.push(`${at} ${name}`)
  }
}
