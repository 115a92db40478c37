/**
 * An MQTT client that keeps its session over its connections and does exactly what the standard says, no more: packet
 * ids stay until they are settled, a resumed session sends what is open again, in the original order and with DUP, and
 * inbound QoS 2 ids are remembered until PUBREL. Nothing reconnects by itself: the test says when. Malformed answers
 * close the connection and are told to `onError`.
 */
import { type Socket, connect } from 'node:net'
import mqttPacket, { type IConnackPacket, type IConnectPacket, type Packet } from 'mqtt-packet'

export type Qos = 0 | 1 | 2

export interface RawClientOptions {
  readonly clientId: string
  readonly version: 4 | 5
  /** Default false: the session lasts. */
  readonly clean?: boolean
  /** Before the PUBACK, PUBREC or PUBCOMP of what it receives; 0: at once. */
  readonly ackDelayMs?: number
  readonly will?: IConnectPacket['will']
}

export interface Inbound {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly dup: boolean
  readonly retain: boolean
}

interface Outbound {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  /** Was sent before: the next time with DUP. */
  sent: boolean
  released: boolean
  /** The broker owns it, or refused it with this reason code. */
  readonly onSettled: (reasonCode: number) => void
}

/** What a client must remember over its connections, at some moment. */
export interface ClientState {
  /** By packet id, in the order of their first transmission. */
  readonly outgoing: ReadonlyMap<number, OpenPublish>
  /** Packet ids of QoS 2 that were received and not released. */
  readonly incoming: ReadonlySet<number>
}

export interface OpenPublish {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: Qos
  readonly retain: boolean
  readonly released: boolean
}

/** One change of that: an outgoing PUBLISH is opened, released, settled; an incoming one is taken, dropped. */
export type ClientChange =
  | { readonly what: 'open'; readonly id: number; readonly publish: OpenPublish }
  | { readonly what: 'release' | 'settle' | 'take' | 'drop'; readonly id: number }
  | { readonly what: 'connect' | 'forget' }

interface Waiting {
  readonly resolve: (packet: Packet) => void
  readonly reject: (error: Error) => void
}

const SESSION_EXPIRY_SECONDS = 3600
const ANSWER_TIMEOUT_MS = 20_000

export class RawClient {
  onMessage: (message: Inbound) => void = () => undefined
  /** A PUBACK or PUBREC of ours was written. */
  onAcked: (message: Inbound) => void = () => undefined
  /** A PUBLISH is written, for the first time or again. */
  onTransmit: (topic: string, payload: Buffer) => void = () => undefined
  /** The broker answered a ping: it has read all that was written before. */
  onPong: () => void = () => undefined
  onError: (error: Error) => void = error => {
    throw error
  }
  onClose: () => void = () => undefined
  /** Called in the same turn in which it changes. */
  onChange: (change: ClientChange) => void = () => undefined

  readonly #options: RawClientOptions
  #socket: Socket | null = null
  /** In the order of their first transmission. */
  readonly #outgoing = new Map<number, Outbound>()
  readonly #incoming = new Set<number>()
  readonly #waiting = new Map<string, Waiting>()
  #owed: { packet: Packet; message: Inbound | null }[] = []
  #timer: NodeJS.Timeout | null = null
  #pongs: (() => void)[] = []

  constructor(options: RawClientOptions) {
    this.#options = options
  }

  get isConnected(): boolean {
    return this.#socket !== null
  }

  /** PUBLISHes without their PUBACK or PUBCOMP. */
  get openCount(): number {
    return this.#outgoing.size
  }

  /** Remembers what a client of this name remembered at some moment; before `connect`. */
  restore(state: ClientState, onSettled: (publish: OpenPublish, reasonCode: number) => void): void {
    for (const id of state.incoming) this.#incoming.add(id)
    for (const [id, publish] of state.outgoing) {
      const settled = (reasonCode: number) => onSettled(publish, reasonCode)
      this.#outgoing.set(id, { ...publish, sent: true, onSettled: settled })
    }
  }

  /** Connects; resumes what is open when the broker says that the session is present, else forgets it. */
  async connect(port: number): Promise<IConnackPacket> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    const parser = mqttPacket.parser({ protocolVersion: this.#options.version })
    this.#socket = socket
    parser.on('packet', packet => this.#handle(packet))
    parser.on('error', error => this.#fail(error))
    socket.on('data', chunk => {
      if (socket === this.#socket) parser.parse(chunk)
    })
    // A reset is how a killed broker's connections end; the close event says the rest.
    socket.on('error', () => undefined)
    socket.on('close', () => this.#closed(socket))
    const { clientId, version, will } = this.#options
    const clean = this.#options.clean ?? false
    const expiry = clean ? 0 : SESSION_EXPIRY_SECONDS
    const answer = this.#await('connack')
    this.onChange({ what: 'connect' })
    this.#write({
      cmd: 'connect',
      protocolId: 'MQTT',
      protocolVersion: version,
      clientId,
      clean,
      keepalive: 60,
      ...(will === undefined ? {} : { will }),
      ...(version === 5 ? { properties: { sessionExpiryInterval: expiry } } : {})
    })
    const connack = (await answer) as IConnackPacket
    const code = version === 5 ? connack.reasonCode : connack.returnCode
    if (code !== 0) throw new Error(`CONNACK ${code}`)
    if (connack.sessionPresent) this.#resume()
    else {
      this.#outgoing.clear()
      this.#incoming.clear()
      this.onChange({ what: 'forget' })
    }
    return connack
  }

  /** Resolves with the granted QoS or reason code. */
  async subscribe(topic: string, qos: Qos): Promise<number> {
    const messageId = this.#takeId()
    const answer = this.#await(`suback ${messageId}`)
    this.#write({ cmd: 'subscribe', messageId, subscriptions: [{ topic, qos }] })
    const suback = await answer
    return suback.cmd === 'suback' ? Number(suback.granted[0]) : 0x80
  }

  async unsubscribe(topic: string): Promise<void> {
    const messageId = this.#takeId()
    const answer = this.#await(`unsuback ${messageId}`)
    this.#write({ cmd: 'unsubscribe', messageId, unsubscriptions: [topic] })
    await answer
  }

  /** Sends; with QoS > 0 keeps it until it is settled, over connections. */
  publish(
    topic: string,
    payload: Buffer,
    options: { qos: Qos; retain?: boolean; onSettled?: (reasonCode: number) => void }
  ): void {
    const { qos, retain = false, onSettled = () => undefined } = options
    if (qos === 0) {
      this.onTransmit(topic, payload)
      this.#write({ cmd: 'publish', topic, payload, qos, retain, dup: false })
      return
    }
    const entry = { topic, payload, qos, retain, sent: false, released: false, onSettled }
    const id = this.#takeId()
    this.#outgoing.set(id, entry)
    const { released } = entry
    this.onChange({ what: 'open', id, publish: { topic, payload, qos, retain, released } })
    this.#transmit(id, entry)
  }

  /** Stops reading, as a client that hangs does. */
  pause(): void {
    this.#socket?.pause()
  }

  resume(): void {
    this.#socket?.resume()
  }

  ping(): void {
    this.#write({ cmd: 'pingreq' })
  }

  /** Pings, and resolves when the answer, or the end of the connection, comes. */
  async pong(): Promise<void> {
    if (this.#socket === null) return
    const answer = new Promise<void>(resolve => this.#pongs.push(resolve))
    this.ping()
    await answer
  }

  /** DISCONNECT, and waits for the end of the connection. */
  async end(): Promise<void> {
    const socket = this.#socket
    if (socket === null) return
    this.#flushOwed()
    this.#write({ cmd: 'disconnect' })
    await new Promise<void>(resolve => {
      socket.once('close', () => resolve())
      socket.end()
    })
  }

  /** The end of the connection without a word, as when the power fails. */
  destroy(): void {
    const socket = this.#socket
    if (socket === null) return
    socket.destroy()
    this.#closed(socket)
  }

  /** The lowest that is free: an id that the broker failed to release is used again at once. */
  #takeId(): number {
    let id = 1
    const isTaken = () =>
      this.#outgoing.has(id) ||
      this.#waiting.has(`suback ${id}`) ||
      this.#waiting.has(`unsuback ${id}`)
    while (isTaken()) id++
    return id
  }

  #await(key: string): Promise<Packet> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${key}`)), ANSWER_TIMEOUT_MS)
      this.#waiting.set(key, {
        resolve: packet => {
          clearTimeout(timer)
          resolve(packet)
        },
        reject: error => {
          clearTimeout(timer)
          reject(error)
        }
      })
    })
  }

  #answer(key: string, packet: Packet): void {
    const waiting = this.#waiting.get(key)
    this.#waiting.delete(key)
    waiting?.resolve(packet)
  }

  #write(packet: Packet): void {
    const socket = this.#socket
    if (socket === null) return
    socket.write(mqttPacket.generate(packet, { protocolVersion: this.#options.version }))
  }

  #transmit(messageId: number, entry: Outbound): void {
    if (this.#socket === null) return
    const { topic, payload, qos, retain } = entry
    this.onTransmit(topic, payload)
    this.#write({ cmd: 'publish', topic, payload, qos, retain, dup: entry.sent, messageId })
    entry.sent = true
  }

  #resume(): void {
    for (const [messageId, entry] of this.#outgoing) {
      if (entry.released) this.#write({ cmd: 'pubrel', messageId })
      else this.#transmit(messageId, entry)
    }
  }

  #handle(packet: Packet): void {
    const id = packet.messageId ?? 0
    if (packet.cmd === 'connack') this.#answer('connack', packet)
    else if (packet.cmd === 'suback' || packet.cmd === 'unsuback') {
      this.#answer(`${packet.cmd} ${id}`, packet)
    } else if (packet.cmd === 'pingresp') {
      this.#pongs.shift()?.()
      this.onPong()
    } else if (packet.cmd === 'publish') {
      const { topic, qos, dup, retain } = packet
      const payload = Buffer.from(packet.payload)
      this.#received(id, { topic, payload, qos, dup, retain })
    } else if (packet.cmd === 'pubrel') {
      const isKnown = this.#incoming.delete(id)
      if (isKnown) this.onChange({ what: 'drop', id })
      // 0x92, packet identifier not found: a crash may have made the broker forget our PUBCOMP.
      this.#owe({ cmd: 'pubcomp', messageId: id, reasonCode: isKnown ? 0 : 0x92 }, null)
    } else if (packet.cmd === 'puback' || packet.cmd === 'pubrec' || packet.cmd === 'pubcomp') {
      this.#settle(packet.cmd, id, packet.reasonCode ?? 0)
    } else if (packet.cmd === 'disconnect') {
      // 0x8B, server shutting down: what a test that stops the broker expects.
      if (packet.reasonCode === 0x8b) this.destroy()
      else this.#fail(new Error(`DISCONNECT ${packet.reasonCode}`))
    }
  }

  #received(id: number, message: Inbound): void {
    if (message.qos === 2) {
      if (!this.#incoming.has(id)) {
        this.#incoming.add(id)
        this.onChange({ what: 'take', id })
        this.onMessage(message)
      }
      this.#owe({ cmd: 'pubrec', messageId: id, reasonCode: 0 }, message)
    } else {
      this.onMessage(message)
      if (message.qos === 1) this.#owe({ cmd: 'puback', messageId: id, reasonCode: 0 }, message)
    }
  }

  #settle(cmd: 'puback' | 'pubrec' | 'pubcomp', id: number, reasonCode: number): void {
    const entry = this.#outgoing.get(id)
    if (entry === undefined) {
      // A PUBREC that crossed with our crash: the standard wants a PUBREL all the same.
      if (cmd === 'pubrec') this.#write({ cmd: 'pubrel', messageId: id })
      else this.#fail(new Error(`${cmd} for packet id ${id}, which is not open`))
      return
    }
    const isExpected = cmd === 'puback' ? entry.qos === 1 : entry.qos === 2
    if (!isExpected) this.#fail(new Error(`${cmd} for a PUBLISH of QoS ${entry.qos}`))
    else if (cmd === 'pubrec' && reasonCode < 0x80) {
      const isFirst = !entry.released
      entry.released = true
      this.onChange({ what: 'release', id })
      if (isFirst) entry.onSettled(reasonCode)
      this.#write({ cmd: 'pubrel', messageId: id })
    } else {
      this.#outgoing.delete(id)
      this.onChange({ what: 'settle', id })
      if (cmd !== 'pubcomp') entry.onSettled(reasonCode)
    }
  }

  /** Acknowledgements leave in the order of what they acknowledge [MQTT-4.6.0-2, -3, -4]. */
  #owe(packet: Packet, message: Inbound | null): void {
    this.#owed.push({ packet, message })
    const delayMs = this.#options.ackDelayMs ?? 0
    if (delayMs === 0) this.#flushOwed()
    else this.#timer ??= setTimeout(() => this.#flushOwed(), delayMs)
  }

  #flushOwed(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    const owed = this.#owed
    this.#owed = []
    for (const { packet, message } of owed) {
      this.#write(packet)
      if (message !== null) this.onAcked(message)
    }
  }

  #fail(error: Error): void {
    this.destroy()
    this.onError(new Error(`${this.#options.clientId}: ${error.message}`))
  }

  #closed(socket: Socket): void {
    if (socket !== this.#socket) return
    this.#socket = null
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    // What is not acknowledged comes again.
    this.#owed = []
    const error = new Error(`${this.#options.clientId}: connection closed`)
    for (const waiting of this.#waiting.values()) waiting.reject(error)
    this.#waiting.clear()
    for (const resolve of this.#pongs.splice(0)) resolve()
    this.onClose()
  }
}
