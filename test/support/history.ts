/**
 * What a run of a broker looked like from outside: one event a line, in the order of a monotonic clock. The checker
 * (`checker.ts`) judges a broker by nothing else. A history is written by the clients of a test, who record `invoke`
 * before they act and `ok`, `fail` or nothing when they learn the result: an action without a result may have
 * happened or not, and stays open for ever.
 */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import type { ClientChange } from './raw-client.ts'

/** `invoke`: about to be done; `ok`: done; `fail`: certainly not done; `info`: nobody knows, or something to know. */
export type EventType = 'invoke' | 'ok' | 'fail' | 'info'

/**
 * - `pub`: a message; `invoke` once a transmission; `qos` 0, 1, 2; a publish with confirms is QoS 1.
 * - `sub`, `unsub`: `proc` is due the messages of `flow`, at `qos` or as a `queue`.
 * - `forbid`: `proc` may not see messages of `flow`.
 * - `recv`: `proc` got a message; `dup` is MQTT's DUP or AMQP's redelivered; `lane` one consumer of several.
 * - `cons-ack`: `proc` acknowledged a message; `ok` when the broker is known to have read the acknowledgement.
 * - `set`, `get`: the retained value `id` of topic `flow` was written, read; the empty value is none.
 * - `conn`: CONNACK: `clean` as asked, `present` as told, `lasting` when the session outlives the connection.
 * - `pause`: the broker could not run for `value` milliseconds of the time just before.
 * - `crash`: the broker died, `how`; `start`: it is ready again.
 * - `count`, `waiting`: what the broker says it dropped of, or still keeps for, `proc`, in `value`.
 */
export type EventName =
  | 'pub'
  | 'sub'
  | 'unsub'
  | 'forbid'
  | 'recv'
  | 'cons-ack'
  | 'set'
  | 'get'
  | 'conn'
  | 'pause'
  | 'crash'
  | 'start'
  | 'count'
  | 'waiting'

/** What an object is due for a flow. */
export type Guarantee = 0 | 1 | 2 | 'queue'

export interface HistoryEvent {
  /** Monotonic nanoseconds. */
  readonly t: number
  /** Who did it: a publisher, or the durable thing (session, queue, bridge's far side) that a message reached. */
  readonly proc: string
  readonly f: EventName
  readonly type: EventType
  /** The ordered stream of one publisher to one topic at one QoS; for `set` and `get` the topic. */
  readonly flow?: string
  readonly seq?: number
  readonly id?: string
  readonly qos?: Guarantee
  readonly dup?: boolean
  readonly lane?: string
  /** False: the bytes that arrived are not the bytes that were sent. */
  readonly intact?: boolean
  readonly clean?: boolean
  readonly present?: boolean
  readonly lasting?: boolean
  readonly how?: 'kill' | 'power' | 'stop'
  readonly value?: number
  /** Of a `pub`: the message expires, so that nobody can be said to have lost it. */
  readonly expires?: boolean
  /** Of a `pub`: it must have arrived by then (a will). */
  readonly due?: number
}

/** An event without its time. */
export type NewEvent = Omit<HistoryEvent, 't'>

/** Events in memory, in the order of their times. */
export class History {
  readonly events: HistoryEvent[] = []
  readonly run: string
  /** Called with every event, before the caller of `record` goes on. */
  onRecord: (event: HistoryEvent) => void = () => undefined
  /** Called when what an MQTT client must remember changes. */
  onClientChange: (clientId: string, change: ClientChange) => void = () => undefined

  constructor(run: string) {
    this.run = run
  }

  record(event: NewEvent): void {
    const entry = { t: Number(process.hrtime.bigint()), ...event }
    this.events.push(entry)
    this.onRecord(entry)
  }

  /** One JSON object a line. */
  write(file: string): void {
    writeFileSync(file, '')
    for (let start = 0; start < this.events.length; start += 10_000) {
      const lines = this.events.slice(start, start + 10_000).map(event => JSON.stringify(event))
      appendFileSync(file, `${lines.join('\n')}\n`)
    }
  }
}

export function readHistory(file: string): HistoryEvent[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as HistoryEvent)
}

/** What a payload says about itself. */
export interface Stamp {
  readonly run: string
  readonly producer: string
  readonly flow: string
  readonly seq: number
  /** Of the whole payload, its sum aside. */
  readonly intact: boolean
}

export function messageId(flow: string, seq: number): string {
  return `${flow}#${seq}`
}

/** A payload that can be recognised: `crc|run|producer|flow|seq|filling`. */
export function stampPayload(
  run: string,
  producer: string,
  flow: string,
  seq: number,
  bytes = 0
): Buffer {
  const text = `${run}|${producer}|${flow}|${seq}|`
  const body = text + 'x'.repeat(Math.max(0, bytes - text.length - 9))
  return Buffer.from(`${crc32(body).toString(16).padStart(8, '0')}|${body}`)
}

export function readStamp(payload: Uint8Array): Stamp {
  const text = Buffer.from(payload).toString('latin1')
  const [, run = '', producer = '', flow = '', seq = '-1'] = text.split('|')
  const intact = text.slice(0, 8) === crc32(text.slice(9)).toString(16).padStart(8, '0')
  return { run, producer, flow, seq: Number(seq), intact }
}
