/** The MQTT actors of the mixed load: each writes what it does and sees into the history. */
import { type History, type HistoryEvent, messageId, readStamp, stampPayload } from './history.ts'
import { type ClientState, type Qos, RawClient } from './raw-client.ts'

/** Payloads are so long where nothing else is said. */
const PAYLOAD_BYTES = 64

export interface PublisherOptions {
  readonly name: string
  readonly version: 4 | 5
  readonly qos: Qos
  readonly topic: string
  /** PUBLISHes in flight; 0: only QoS 0. */
  readonly window: number
  readonly payloadBytes?: number
}

/** Publishes one flow, named like itself, and sends again what a crash left open. */
export class MqttPublisher {
  readonly name: string
  /** Messages made. */
  count = 0
  readonly #history: History
  readonly #options: PublisherOptions
  readonly #client: RawClient

  constructor(history: History, options: PublisherOptions) {
    this.name = options.name
    this.#history = history
    this.#options = options
    this.#client = new RawClient({ clientId: options.name, version: options.version })
    this.#client.onTransmit = (_topic, payload) => {
      const { seq } = readStamp(payload)
      this.#record('invoke', seq)
    }
    this.#client.onChange = change => history.onClientChange(options.name, change)
  }

  /** Goes on where the history ends. */
  resume(state: ClientState): void {
    const mine = this.#history.events.filter(({ f, flow }) => f === 'pub' && flow === this.name)
    this.count = mine.reduce((count, { seq }) => Math.max(count, (seq ?? 0) + 1), 0)
    this.#client.restore(state, ({ payload }, code) => {
      this.#record(code < 0x80 ? 'ok' : 'fail', readStamp(payload).seq)
    })
  }

  get isIdle(): boolean {
    return this.#client.openCount === 0
  }

  get isConnected(): boolean {
    return this.#client.isConnected
  }

  /** Resolves when a PINGRESP came. */
  pong(): Promise<void> {
    return this.#client.pong()
  }

  async connect(port: number): Promise<void> {
    const { sessionPresent } = await this.#client.connect(port)
    const { name: proc } = this.#options
    this.#history.record({ f: 'conn', type: 'ok', proc, present: sessionPresent, lasting: true })
  }

  /** Publishes `wanted` messages, or as many as the window leaves room for. */
  publish(wanted: number): void {
    const { name, topic, qos, window, payloadBytes = PAYLOAD_BYTES } = this.#options
    for (let sent = 0; sent < wanted; sent++) {
      if (!this.#client.isConnected || (qos > 0 && this.#client.openCount >= window)) return
      const seq = this.count++
      const payload = stampPayload(this.#history.run, name, name, seq, payloadBytes)
      this.#client.publish(topic, payload, {
        qos,
        onSettled: code => {
          this.#record(code < 0x80 ? 'ok' : 'fail', seq)
        }
      })
    }
  }

  async end(): Promise<void> {
    await this.#client.end()
  }

  destroy(): void {
    this.#client.destroy()
  }

  #record(type: 'invoke' | 'ok' | 'fail', seq: number): void {
    const { name, qos } = this.#options
    const id = messageId(name, seq)
    this.#history.record({ f: 'pub', type, proc: name, flow: name, seq, id, qos })
  }
}

export interface SubscriberOptions {
  readonly name: string
  readonly version: 4 | 5
  readonly qos: Qos
  readonly filter: string
  /** The flows that reach `filter`. */
  readonly flows: readonly string[]
  readonly ackDelayMs: number
}

/** A session that lasts: subscribes once, and then only comes back. */
export class MqttSubscriber {
  readonly name: string
  /** Ids of messages that it got at least once. */
  readonly seen = new Set<string>()
  readonly #history: History
  readonly #options: SubscriberOptions
  readonly #client: RawClient
  #acked: string[] = []
  /** Acknowledged before the ping that is on its way. */
  #pinged: string[] | null = null
  /** When the last SUBACK came, in the history's time; infinite: it may not be subscribed. */
  #claimedFrom = Number.POSITIVE_INFINITY
  #isSwitching = false

  constructor(history: History, options: SubscriberOptions) {
    this.name = options.name
    this.#history = history
    this.#options = options
    const { name: clientId, version, ackDelayMs } = options
    this.#client = new RawClient({ clientId, version, ackDelayMs })
    this.#client.onMessage = ({ payload, dup }) => this.#received(payload, dup)
    this.#client.onAcked = ({ payload, qos }) => {
      if (qos !== 1) return
      const { flow, seq } = readStamp(payload)
      this.#acked.push(messageId(flow, seq))
    }
    this.#client.onPong = () => this.#ponged()
    this.#client.onClose = () => {
      this.#acked = []
      this.#pinged = null
    }
    this.#client.onChange = change => history.onClientChange(options.name, change)
  }

  get isConnected(): boolean {
    return this.#client.isConnected
  }

  /** Goes on where the history ends. */
  resume(state: ClientState): void {
    this.#client.restore(state, () => undefined)
    for (const { f, type, t, proc, id } of this.#history.events) {
      if (proc !== this.name) continue
      if (f === 'recv') this.seen.add(id ?? '')
      else if (f === 'sub' && type === 'ok') this.#claimedFrom = t
      else if (f === 'unsub') this.#claimedFrom = Number.POSITIVE_INFINITY
    }
  }

  async connect(port: number): Promise<void> {
    const { name: proc } = this.#options
    const { sessionPresent } = await this.#client.connect(port)
    this.#history.record({ f: 'conn', type: 'ok', proc, present: sessionPresent, lasting: true })
    if (!sessionPresent) await this.#subscribe()
  }

  /** Unsubscribes when it is subscribed, else subscribes; one at a time. */
  async switch(): Promise<void> {
    if (!this.isConnected || this.#isSwitching) return
    this.#isSwitching = true
    try {
      if (this.#claimedFrom === Number.POSITIVE_INFINITY) await this.#subscribe()
      else await this.#unsubscribe()
    } catch (error) {
      // Cut off: nobody knows what became of it.
      if (this.isConnected) throw error
    } finally {
      this.#isSwitching = false
    }
  }

  /** Of these messages, those that are due to it and were not seen. */
  missing(acked: readonly HistoryEvent[]): HistoryEvent[] {
    if (!this.isConnected || this.#claimedFrom === Number.POSITIVE_INFINITY) return []
    const { flows } = this.#options
    const open = acked.filter(({ flow, seq }) => {
      return flows.includes(flow ?? '') && !this.seen.has(messageId(flow ?? '', seq ?? 0))
    })
    if (open.length === 0) return open
    const due = new Set<string>()
    for (const { f, type, t, id } of this.#history.events) {
      if (f === 'pub' && type === 'invoke' && t > this.#claimedFrom) due.add(id ?? '')
    }
    return open.filter(({ id }) => due.has(id ?? ''))
  }

  async #subscribe(): Promise<void> {
    const { name: proc, filter, flows, qos } = this.#options
    for (const flow of flows) this.#history.record({ f: 'sub', type: 'invoke', proc, flow, qos })
    const granted = await this.#client.subscribe(filter, qos)
    // It changes a subscription while the disk fails: that may be refused.
    if (granted !== qos && this.#isSwitching) return
    if (granted !== qos) throw new Error(`${proc}: SUBSCRIBE was answered with ${granted}`)
    for (const flow of flows) this.#history.record({ f: 'sub', type: 'ok', proc, flow, qos })
    this.#claimedFrom = this.#history.events.at(-1)!.t
  }

  async #unsubscribe(): Promise<void> {
    const { name: proc, filter, flows } = this.#options
    this.#claimedFrom = Number.POSITIVE_INFINITY
    for (const flow of flows) this.#history.record({ f: 'unsub', type: 'invoke', proc, flow })
    await this.#client.unsubscribe(filter)
    for (const flow of flows) this.#history.record({ f: 'unsub', type: 'ok', proc, flow })
  }

  /** Asks for a sign that what it acknowledged was read. */
  ping(): void {
    if (!this.#client.isConnected || this.#pinged !== null) return
    this.#pinged = this.#acked
    this.#acked = []
    this.#client.ping()
  }

  async end(): Promise<void> {
    await this.#client.end()
  }

  destroy(): void {
    this.#client.destroy()
  }

  #received(payload: Buffer, dup: boolean): void {
    const { run, flow, seq, intact } = readStamp(payload)
    const id = run === this.#history.run ? messageId(flow, seq) : `another run: ${run}`
    this.seen.add(id)
    this.#history.record({ f: 'recv', type: 'ok', proc: this.name, flow, seq, id, dup, intact })
  }

  #ponged(): void {
    for (const id of this.#pinged ?? []) {
      this.#history.record({ f: 'cons-ack', type: 'ok', proc: this.name, id })
    }
    this.#pinged = null
  }
}

export const WRITER = 'retained-writer'

/**
 * After its SUBACK a topic counts as empty when the broker has answered so many pings, so far apart: a value that is not
 * durable yet is replayed when it is.
 */
const NONE_AFTER_PONGS = 6
/** A write that is open for longer will not be settled: there is no reading. */
const OPEN_PONGS_MAX = 200

/** Writes, deletes and reads back retained topics. */
export class RetainedActor {
  readonly topics: readonly string[]
  /** All that the reader was sent, live messages too. */
  messagesRead = 0
  pingPauseMs = 50
  readonly #history: History
  readonly #writer: RawClient
  readonly #reader: RawClient
  #count = 0
  readonly #open = new Set<string>()
  readonly #pongsMax: number
  readonly #reading = new Map<string, (value: string | null) => void>()

  constructor(history: History, topics: readonly string[], syncMs: number) {
    this.topics = topics
    this.#pongsMax = NONE_AFTER_PONGS + Math.ceil((2 * syncMs) / this.pingPauseMs)
    this.#history = history
    this.#writer = new RawClient({ clientId: WRITER, version: 5 })
    this.#reader = new RawClient({ clientId: 'retained-reader', version: 4, clean: true })
    this.#writer.onTransmit = (topic, payload) => this.#wrote('invoke', topic, String(payload))
    this.#writer.onChange = change => history.onClientChange(WRITER, change)
    this.#reader.onMessage = ({ topic, payload, retain }) => {
      this.messagesRead++
      this.#reading.get(topic)?.(retain ? String(payload) : null)
    }
    this.#reader.onClose = () => {
      for (const got of this.#reading.values()) got('')
      this.#reading.clear()
    }
  }

  get isIdle(): boolean {
    return this.#writer.openCount === 0
  }

  /** Finishes, without a new value, what the history leaves open. */
  resume(state: ClientState): void {
    for (const { topic } of state.outgoing.values()) this.#open.add(topic)
    this.#writer.restore(state, ({ topic, payload }, code) => {
      this.#open.delete(topic)
      this.#wrote(code < 0x80 ? 'ok' : 'fail', topic, String(payload))
    })
  }

  /** Reads all topics before it writes again: what a crash took is seen. */
  async connect(port: number): Promise<void> {
    await this.#reader.connect(port)
    await this.readAll()
    const { sessionPresent: present } = await this.#writer.connect(port)
    this.#history.record({ f: 'conn', type: 'ok', proc: WRITER, present, lasting: true })
  }

  /** A new value for the topic, every eighth time none, at QoS 1 and 2 in turn; one at a time. */
  write(topic: string): void {
    if (!this.#writer.isConnected || this.#open.has(topic)) return
    const number = ++this.#count
    const value = number % 8 === 0 ? '' : `${this.#history.run}|${number}`
    this.#open.add(topic)
    this.#writer.publish(topic, Buffer.from(value), {
      qos: number % 2 === 0 ? 1 : 2,
      retain: true,
      onSettled: code => {
        this.#open.delete(topic)
        this.#wrote(code < 0x80 ? 'ok' : 'fail', topic, value)
      }
    })
  }

  async readAll(): Promise<void> {
    await Promise.all(this.topics.map(topic => this.read(topic)))
  }

  /**
   * Subscribes and takes the first message. A live one leaves before the disk has it, as any delivery
   * does: it says what was sent, not what is kept, and the reading comes to nothing.
   */
  async read(topic: string): Promise<void> {
    if (!this.#reader.isConnected || this.#reading.has(topic)) return
    const proc = 'retained-reader'
    this.#history.record({ f: 'get', type: 'invoke', proc, flow: topic })
    const first = new Promise<string | null>(resolve => this.#reading.set(topic, resolve))
    try {
      await this.#reader.subscribe(topic, 0)
      const id = await Promise.race([first, this.#none(topic)])
      // The connection died meanwhile: nobody knows what would have come.
      if (!this.#reading.delete(topic)) return
      if (id !== null) this.#history.record({ f: 'get', type: 'ok', proc, flow: topic, id })
      await this.#reader.unsubscribe(topic)
    } catch (error) {
      if (this.#reader.isConnected) throw error
    }
  }

  /**
   * Resolves with none when nothing can be on its way any more. While a write to the topic is open its value may wait
   * for a sync, however long that takes: until then there is no reading.
   */
  async #none(topic: string): Promise<string | null> {
    let pongs = 0
    for (let all = 0; pongs < this.#pongsMax && this.#reader.isConnected; all++) {
      if (all > OPEN_PONGS_MAX) return null
      await new Promise(resolve => setTimeout(resolve, this.pingPauseMs))
      await this.#reader.pong()
      pongs = this.#writer.isConnected && this.#open.has(topic) ? 0 : pongs + 1
    }
    return ''
  }

  async end(): Promise<void> {
    await this.#writer.end()
    await this.#reader.end()
  }

  destroy(): void {
    this.#writer.destroy()
    this.#reader.destroy()
  }

  #wrote(type: 'invoke' | 'ok' | 'fail', flow: string, id: string): void {
    this.#history.record({ f: 'set', type, proc: WRITER, flow, id })
  }
}
