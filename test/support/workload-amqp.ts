/** The AMQP actors of the mixed load, over amqplib. */
import { type Channel, type ChannelModel, type ConfirmChannel, connect } from 'amqplib'
import { type History, messageId, readStamp, stampPayload } from './history.ts'

/** Payloads are so long where nothing else is said. */
const PAYLOAD_BYTES = 64

/** A connection that may die at any moment: what it says then is expected. */
export async function openAmqp(port: number): Promise<ChannelModel> {
  const connection = await connect(`amqp://guest:guest@127.0.0.1:${port}`, { noDelay: true })
  connection.on('error', () => undefined)
  return connection
}

export interface ProducerOptions {
  readonly name: string
  readonly exchange: string
  readonly routingKey: string
  readonly window: number
  /** After a crash, publish again what was not confirmed; else it stays unknown. */
  readonly republishes: boolean
  readonly payloadBytes?: number
}

/** Publishes one flow, named like itself, persistent and with confirms. */
export class AmqpProducer {
  readonly name: string
  count = 0
  readonly #history: History
  readonly #options: ProducerOptions
  #channel: ConfirmChannel | null = null
  readonly #unconfirmed = new Set<number>()

  constructor(history: History, options: ProducerOptions) {
    this.name = options.name
    this.#history = history
    this.#options = options
  }

  get isIdle(): boolean {
    return this.#unconfirmed.size === 0
  }

  /** Goes on where the history ends. */
  resume(): void {
    for (const { f, type, flow, seq = 0 } of this.#history.events) {
      if (f !== 'pub' || flow !== this.name) continue
      this.count = Math.max(this.count, seq + 1)
      if (type === 'invoke') this.#unconfirmed.add(seq)
      else this.#unconfirmed.delete(seq)
    }
  }

  async open(connection: ChannelModel): Promise<void> {
    const channel = await connection.createConfirmChannel()
    channel.on('error', () => undefined)
    channel.on('close', () => {
      if (this.#channel === channel) this.#channel = null
    })
    const again = [...this.#unconfirmed]
    this.#unconfirmed.clear()
    this.#channel = channel
    if (this.#options.republishes) for (const seq of again) this.#send(channel, seq)
  }

  publish(wanted: number): void {
    for (let sent = 0; sent < wanted; sent++) {
      if (this.#channel === null || this.#unconfirmed.size >= this.#options.window) return
      this.#send(this.#channel, this.count++)
    }
  }

  #send(channel: ConfirmChannel, seq: number): void {
    const { name, exchange, routingKey, payloadBytes = PAYLOAD_BYTES } = this.#options
    const payload = stampPayload(this.#history.run, name, name, seq, payloadBytes)
    const id = messageId(name, seq)
    const record = (type: 'invoke' | 'ok') =>
      this.#history.record({ f: 'pub', type, proc: name, flow: name, seq, id, qos: 1 })
    this.#unconfirmed.add(seq)
    record('invoke')
    channel.publish(exchange, routingKey, payload, { persistent: true }, error => {
      // Refused or cut off: it stays unconfirmed.
      if (error !== null || this.#channel !== channel) return
      this.#unconfirmed.delete(seq)
      record('ok')
    })
  }
}

export interface ConsumerOptions {
  readonly queue: string
  /** Tells the consumers of one queue apart. */
  readonly lane: string
  readonly prefetch: number
  readonly ackDelayMs: number
}

/** Takes from a queue and acknowledges a little later, in order. */
export class AmqpConsumer {
  readonly #history: History
  readonly #options: ConsumerOptions
  readonly #seen: Set<string>
  #channel: Channel | null = null
  #acked: string[] = []
  #asked = false

  constructor(history: History, options: ConsumerOptions, seen: Set<string>) {
    this.#history = history
    this.#options = options
    this.#seen = seen
  }

  async open(connection: ChannelModel): Promise<void> {
    const { queue, prefetch, ackDelayMs } = this.#options
    const channel = await connection.createChannel()
    this.#channel = channel
    this.#acked = []
    this.#asked = false
    channel.on('error', () => undefined)
    channel.on('close', () => {
      if (this.#channel === channel) this.#channel = null
    })
    await channel.prefetch(prefetch)
    await channel.consume(queue, message => {
      if (message === null) return
      const id = this.#received(message.content, message.fields.redelivered)
      setTimeout(() => {
        if (this.#channel !== channel) return
        channel.ack(message)
        this.#acked.push(id)
      }, ackDelayMs)
    })
  }

  /** Takes no more; what it has not acknowledged by now goes back. */
  async close(): Promise<void> {
    const channel = this.#channel
    this.#channel = null
    await channel?.close()
  }

  /** Asks for a sign that what it acknowledged was read: basic.qos-ok. */
  ping(): void {
    const channel = this.#channel
    if (channel === null || this.#asked) return
    const acked = this.#acked
    this.#acked = []
    this.#asked = true
    channel.prefetch(this.#options.prefetch).then(
      () => {
        this.#asked = false
        const { queue: proc } = this.#options
        for (const id of acked) this.#history.record({ f: 'cons-ack', type: 'ok', proc, id })
      },
      () => {
        // The connection died: nobody knows whether the acknowledgements were read.
        this.#asked = false
      }
    )
  }

  #received(content: Buffer, dup: boolean): string {
    const { queue: proc, lane } = this.#options
    const { run, flow, seq, intact } = readStamp(content)
    const id = run === this.#history.run ? messageId(flow, seq) : `another run: ${run}`
    this.#seen.add(id)
    this.#history.record({ f: 'recv', type: 'ok', proc, flow, seq, id, dup, intact, lane })
    return id
  }
}
