/**
 * What a channel in tx mode has said since its last commit: publishes, and outcomes of deliveries. A publish was
 * judged when it came; it is routed and kept at the commit.
 */
import type { Exchange } from '../core/exchange.ts'
import type { FieldTable } from '../core/field-table.ts'
import type { Message } from '../core/message.ts'
import type { Outcome } from './outcome.ts'
import { AmqpError, REPLY } from './reply-codes.ts'
import type { ChannelRoom } from './channel-room.ts'

const MESSAGES_MAX = 10_000
const BYTES_MAX = 16 * 1024 * 1024
/** What a message takes beside its bytes, about. */
const MESSAGE_EXTRA_BYTES = 256

export interface StagedPublish {
  readonly exchange: Exchange
  /** As published. */
  readonly exchangeName: string
  readonly key: string
  readonly isMandatory: boolean
  /** The key is that of a channel that awaits direct replies. */
  readonly isReply: boolean
  readonly retain: boolean
  readonly headers: FieldTable | null
  /** CC and BCC. */
  readonly moreKeys: readonly string[] | null
  readonly qos: number
  readonly priority: number
  /** Counts from the commit; 0 = never. */
  readonly expiresInMs: number
  /** Key, properties, payload. */
  readonly bytes: Buffer
  readonly keyEnd: number
  readonly propertiesEnd: number
}

export class Transaction {
  readonly publishes: StagedPublish[]
  /** Of the outcomes, in the order in which they were told. */
  readonly tags: number[]
  readonly sequences: number[]
  readonly holders: number[]
  readonly outcomes: Outcome[]
  readonly #room: ChannelRoom
  #bytes: number

  constructor(room: ChannelRoom) {
    this.#room = room
    this.publishes = []
    this.tags = []
    this.sequences = []
    this.holders = []
    this.outcomes = []
    this.#bytes = 0
  }

  /** Throws 406 when it becomes too large. */
  add(publish: StagedPublish): void {
    const bytes = publish.bytes.length + MESSAGE_EXTRA_BYTES
    if (this.publishes.length >= MESSAGES_MAX || this.#bytes + bytes > BYTES_MAX) {
      throw new AmqpError(
        REPLY.preconditionFailed,
        `transaction larger than ${MESSAGES_MAX} messages or ${BYTES_MAX} bytes`
      )
    }
    this.#room.take(bytes)
    this.#bytes += bytes
    this.publishes.push(publish)
  }

  /** An ack, nack or reject. */
  keep(tag: number, sequence: number, holder: number, outcome: Outcome): void {
    this.tags.push(tag)
    this.sequences.push(sequence)
    this.holders.push(holder)
    this.outcomes.push(outcome)
  }

  clear(): void {
    this.publishes.length = 0
    this.tags.length = 0
    this.sequences.length = 0
    this.holders.length = 0
    this.outcomes.length = 0
    this.#room.give(this.#bytes)
    this.#bytes = 0
  }
}

/** The bytes of a message in one buffer of their own. */
export function bytesOf(message: Message): Buffer {
  const { source } = message
  return Buffer.concat([
    source.subarray(message.keyStart, message.keyEnd),
    source.subarray(message.propertiesStart, message.propertiesEnd),
    source.subarray(message.payloadStart, message.payloadEnd)
  ])
}

/** Fills `message` with what was staged. */
export function openStaged(staged: StagedPublish, message: Message, nowMs: number): void {
  const { bytes, keyEnd, propertiesEnd, expiresInMs } = staged
  message.renew()
  message.compose(bytes, staged.key, keyEnd, propertiesEnd)
  message.qos = staged.qos
  message.retain = staged.retain
  message.priority = staged.priority
  message.expiresAt = expiresInMs === 0 ? 0 : nowMs + expiresInMs
  message.exchange = staged.exchangeName
  message.publisherId = 0
  message.packetId = 0
  // Nobody waits for one message of them: commit-ok waits for all.
  message.isAwaited = false
}
