/**
 * A far side that speaks AMQP 0-9-1: RabbitMQ, LavinMQ, another Motemq. The package `rabbitmq-client` makes the
 * connection, its handshake, heartbeats and channels; reconnecting is the bridge's, so its connection is destroyed
 * at the first error. Publishes are written as frames of ours on its channel, many in one write, and confirmed by its
 * table of unconfirmed tags: see docs/decisions/0020-bridges-write-frames-of-their-own.md.
 */
import type { LookupFunction } from 'node:net'
import type { ReturnedMessage } from 'rabbitmq-client'
import type { PropertiesEncoder } from '../../core/properties.ts'
import { type Link, LinkError, type LinkOwner, type Outgoing, type Refusal } from '../link.ts'
import { SEQUENCE_HEADER } from '../message-id.ts'
import type { BridgeSettings } from '../settings.ts'
import { FRAME_EXTRA_BYTES, HEADER_FIXED_BYTES, publishFrames } from './amqp-frames.ts'
import { codeOf, isConfigError, linkErrorOf, mayBeMessages, reasonOf } from './amqp-errors.ts'
import { type AmqpOpened, AmqpOpening } from './amqp-open.ts'

/** Written to the line at once; a larger message goes in pieces of it. */
const PIECE_BYTES = 64 * 1024
/** More that waits for the line is not taken. */
const PENDING_BYTES_MAX = 256 * 1024
const GOODBYE_MS = 1_000
const USER_HEADER = 'x-motemq-user-id'

/** Stands in the library's table for a message that was sent. */
class Sent {
  readonly link: AmqpLink
  readonly sequence: number

  constructor(link: AmqpLink, sequence: number) {
    this.link = link
    this.sequence = sequence
  }

  resolve(): void {
    this.link.onAck(this.sequence)
  }

  reject(error: unknown): void {
    this.link.onNack(this.sequence, error)
  }
}

export class AmqpLink implements Link {
  sentBytes: number
  readonly #owner: LinkOwner
  readonly #encode: PropertiesEncoder
  readonly #opening: AmqpOpening
  #opened: AmqpOpened | null
  #gathered: Buffer[]
  #gatheredBytes: number
  #pendingBytes: number
  #isFlushing: boolean
  #wasFull: boolean
  /** Confirmed, and told in the turn after the next: a return comes before its confirm, but is told by the library later. */
  #fresh: number[]
  #ripe: number[]
  #isTelling: boolean
  readonly #nacked: Map<number, Refusal>
  readonly #returned: Map<number, Refusal>
  #isClosed: boolean

  /** `lookup`: finds the address of its host; null: as the system does. */
  constructor(
    settings: BridgeSettings,
    owner: LinkOwner,
    encode: PropertiesEncoder,
    lookup: LookupFunction | null = null
  ) {
    this.sentBytes = 0
    this.#owner = owner
    this.#encode = encode
    this.#opening = new AmqpOpening(settings, lookup)
    this.#opened = null
    this.#gathered = []
    this.#gatheredBytes = 0
    this.#pendingBytes = 0
    this.#isFlushing = false
    this.#wasFull = false
    this.#fresh = []
    this.#ripe = []
    this.#isTelling = false
    this.#nacked = new Map()
    this.#returned = new Map()
    this.#isClosed = false
  }

  get holdup(): string {
    const { blocked, step } = this.#opening
    if (blocked !== '') return `the far side blocks publishers: ${blocked}`
    return this.#opened === null ? step : ''
  }

  get isWritable(): boolean {
    const pending = this.#pendingBytes + this.#gatheredBytes
    if (this.#opened !== null && this.#opening.blocked === '' && pending < PENDING_BYTES_MAX)
      return true
    this.#wasFull = true
    return false
  }

  async open(signal: AbortSignal): Promise<void> {
    const aborted = new Promise<never>((_, reject) => {
      const onAbort = () => reject(new LinkError('given up', false))
      if (signal.aborted) onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
    })
    try {
      // Whatever the library waits for, an abort ends the waiting.
      this.#opened = await Promise.race([this.#opening.open(), aborted])
    } catch (error) {
      this.#opening.destroy()
      throw linkErrorOf(error)
    }
    this.#listen(this.#opened)
  }

  #listen({ connection, channel }: AmqpOpened): void {
    connection.on('connection.unblocked', () => this.#room())
    connection.on('error', error => this.#lose(error))
    channel.on('error', error => this.#lose(error))
    channel.on('close', () => this.#lose(new LinkError('the channel was closed', false)))
    channel.on('basic.return', (message: ReturnedMessage) => {
      const sequence = Number(message.headers?.[SEQUENCE_HEADER])
      const reason = `${message.replyCode} ${message.replyText}`
      this.#returned.set(sequence, { kind: 'refused', reason })
    })
    if (!channel.active) this.#lose(new LinkError('the channel was closed', false))
  }

  send(outgoing: Outgoing): Refusal | null {
    const { channel, state, frameBytesMax } = this.#opened!
    const { properties, target, sequence, payload } = outgoing
    if (properties.userId !== null && properties.userId !== this.#opening.user) {
      // A far side closes the channel when it is another name than the connection's.
      properties.headers.push([USER_HEADER, { type: 'S', value: properties.userId }])
      properties.userId = null
    }
    const bytes = this.#encode(properties)
    const headerBytes = bytes.length + HEADER_FIXED_BYTES + FRAME_EXTRA_BYTES
    if (headerBytes > frameBytesMax) {
      const reason = `its headers need ${headerBytes} bytes, a frame there has ${frameBytesMax}`
      return { kind: 'permanent', reason }
    }
    if (Buffer.byteLength(target.exchange) > 255) {
      return { kind: 'permanent', reason: 'the name of the exchange is longer than 255 bytes' }
    }
    const content = { ...target, properties: bytes, payload }
    const frames = publishFrames(channel.id, content, frameBytesMax - FRAME_EXTRA_BYTES)
    state.unconfirmed.set(state.deliveryCount++, new Sent(this, sequence))
    this.#gathered.push(frames)
    this.#gatheredBytes += frames.length
    if (this.#gatheredBytes >= PIECE_BYTES) this.#flush()
    else if (!this.#isFlushing) {
      this.#isFlushing = true
      setImmediate(flush, this)
    }
    return null
  }

  /** For `flush`: what was gathered in this turn leaves. */
  flushTurn(): void {
    this.#isFlushing = false
    this.#flush()
  }

  #flush(): void {
    if (this.#gatheredBytes === 0 || this.#isClosed) return
    const bytes = this.#gathered.length === 1 ? this.#gathered[0]! : Buffer.concat(this.#gathered)
    this.#gathered = []
    this.#gatheredBytes = 0
    this.#pendingBytes += bytes.length
    // What goes wrong here ends the channel, which says so.
    this.#opened!.state.stream.write(this.#pieces(bytes), () => this.#room())
  }

  /** Taken one by one, as fast as the line takes them. */
  *#pieces(bytes: Buffer): Generator<Buffer, void, void> {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES)
      yield piece
      this.sentBytes += piece.length
      this.#pendingBytes -= piece.length
    }
  }

  #room(): void {
    if (this.#isClosed || !this.#wasFull || !this.isWritable) return
    this.#wasFull = false
    this.#owner.onWritable()
  }

  /** For `Sent`. */
  onAck(sequence: number): void {
    this.#fresh.push(sequence)
    this.#tellSoon()
  }

  onNack(sequence: number, error: unknown): void {
    // Anything else than a nack is the end of the channel.
    const code = codeOf(error)
    if (code !== 'NACK') {
      // The library gives the first open message the reason for which the channel was closed, and says it nowhere else.
      if (code !== 'CH_CLOSE') this.#opening.lastError ??= error
      return
    }
    this.#nacked.set(sequence, { kind: 'busy', reason: 'the far side answered with a nack' })
    this.onAck(sequence)
  }

  #tellSoon(): void {
    if (this.#isTelling || this.#isClosed) return
    this.#isTelling = true
    setImmediate(tell, this)
  }

  /** For `tell`. */
  tellRipe(): void {
    this.#isTelling = false
    if (this.#isClosed) return
    const ripe = this.#ripe
    this.#ripe = this.#fresh
    this.#fresh = []
    if (this.#ripe.length > 0) this.#tellSoon()
    if (ripe.length === 0) return
    const owner = this.#owner
    for (const sequence of ripe) {
      const refusal = this.#refusalOf(sequence)
      if (refusal === null) owner.onConfirmed(sequence)
      else owner.onRefused(sequence, refusal)
    }
    owner.onTold()
  }

  #refusalOf(sequence: number): Refusal | null {
    if (this.#returned.size + this.#nacked.size === 0) return null
    const refusal = this.#returned.get(sequence) ?? this.#nacked.get(sequence) ?? null
    this.#returned.delete(sequence)
    this.#nacked.delete(sequence)
    return refusal
  }

  #lose(error: unknown): void {
    if (this.#isClosed) return
    // The channel's own words come a moment before or after those of its connection.
    setImmediate(() => {
      if (this.#isClosed) return
      const cause = this.#opening.lastError ?? error
      const blamesMessage = mayBeMessages(cause)
      const isConfig = !blamesMessage && isConfigError(cause)
      this.#owner.onLost({ reason: reasonOf(cause), isConfig, blamesMessage })
    })
    this.#opening.lastError ??= error instanceof LinkError ? null : error
  }

  close(isOrderly: boolean): void {
    if (this.#isClosed) return
    this.#isClosed = true
    const connection = this.#opened?.connection
    if (!isOrderly || connection === undefined) {
      this.#opening.destroy()
      return
    }
    const timer = setTimeout(() => this.#opening.destroy(), GOODBYE_MS)
    const end = () => {
      clearTimeout(timer)
      this.#opening.destroy()
    }
    this.#opened!.channel.close()
      .then(() => connection.close())
      .then(end, end)
  }
}

function flush(link: AmqpLink): void {
  link.flushTurn()
}

function tell(link: AmqpLink): void {
  link.tellRipe()
}
