/** The MQTT connections of `motemq bench`. */
import {
  type ClientEnd,
  type ClientHandler,
  type ClientOptions,
  defaultOptions,
  TAKEN
} from '../client/client-options.ts'
import { MqttClient } from '../client/mqtt-client.ts'
import { ID } from '../client/properties.ts'
import type { Message } from '../core/message.ts'
import {
  type Load,
  type LoadPeer,
  type LoadPeers,
  type LoadPublisher,
  MARK_AT,
  PUBLISHER_AT,
  Window
} from './bench-load.ts'
import { CommandError } from './exit.ts'

const SESSION_SECONDS = 3_600
const NOTHING = Buffer.alloc(0)

/** A connection; those that do more extend it. */
class Idle implements ClientHandler, LoadPeer {
  protected readonly load: Load
  protected readonly client: MqttClient
  private resolve: (() => void) | null
  private reject: ((error: Error) => void) | null
  private isClosing: boolean

  constructor(load: Load, name: string, isLasting = false) {
    const { url, version, window } = load.options
    const lasting = isLasting && version === 5
    const options: ClientOptions = {
      ...defaultOptions(url.target, load.sockets),
      version,
      clientId: `bench-${load.mark.toString(16)}-${name}`,
      cleanStart: !isLasting,
      username: url.username,
      password: url.password === null ? null : Buffer.from(url.password),
      inflightMax: window,
      properties: lasting ? [{ id: ID.sessionExpiry, value: SESSION_SECONDS }] : []
    }
    this.load = load
    this.client = new MqttClient(options, this)
    this.resolve = null
    this.reject = null
    this.isClosing = false
  }

  open(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
      this.client.connect()
    })
  }

  close(): void {
    this.isClosing = true
    this.client.disconnect()
  }

  protected opened(): void {
    this.resolve?.()
    this.resolve = null
    this.reject = null
  }

  onConnected(): void {
    this.opened()
  }

  onMessage(_message: Message): void {
    // Only subscribers get any.
  }

  onSettled(_token: number, _reason: number): void {
    // Only publishers are told.
  }

  onRoom(): void {
    // Only publishers wait for it.
  }

  onDisconnected(end: ClientEnd): void {
    this.reject?.(new CommandError(`no connection: ${end.text}`))
    if (!this.isClosing) this.load.lostConnections++
  }
}

class Subscriber extends Idle {
  private readonly index: number

  constructor(load: Load, index: number) {
    super(load, `sub${index}`, load.options.durable)
    this.index = index
  }

  override onConnected(): void {
    const { layout, publishers, subscribers, qos, topic } = this.load.options
    const filters: string[] = []
    if (layout === 'pairs') {
      for (let i = this.index; i < publishers; i += subscribers) filters.push(`${topic}/${i}`)
    } else filters.push(`${topic}/#`)
    this.client
      .subscribe(filters.map(filter => ({ filter, qos, options: 0 })))
      .then(() => this.opened())
      .catch((error: unknown) => {
        setImmediate(() => {
          throw error
        })
      })
  }

  override onMessage(message: Message): void {
    const { source, payloadStart, payloadBytes } = message
    this.load.onDelivery(source, payloadStart, payloadBytes, this.index)
  }

  override close(): void {
    // A session that lasts is not left behind.
    const { options } = this.load
    if (options.durable && options.version === 5 && this.client.isOpen) {
      this.client.disconnect(0, [{ id: ID.sessionExpiry, value: 0 }])
    }
    super.close()
  }
}

class Publisher extends Idle implements LoadPublisher {
  private readonly topic: Buffer
  private readonly payload: Buffer
  readonly window: Window

  constructor(load: Load, index: number) {
    super(load, `pub${index}`)
    const { layout, size, topic } = load.options
    this.topic = Buffer.from(layout === 'fan-out' ? `${topic}/all` : `${topic}/${index}`)
    this.payload = Buffer.alloc(size, 'x')
    this.payload.writeUInt32BE(index, PUBLISHER_AT)
    this.payload.writeUInt32BE(load.mark, MARK_AT)
    this.window = new Window(load, this)
  }

  publishOne(): boolean {
    const { load, payload } = this
    const { qos } = load.options
    payload.writeDoubleBE(performance.now(), 0)
    // A large payload is not copied at QoS 0: it must not be written over.
    const bytes = qos === 0 && payload.length > 8_192 ? Buffer.from(payload) : payload
    if (this.client.publish(this.topic, bytes, qos, false, NOTHING, 0) !== TAKEN) return false
    load.published++
    this.window.outstanding++
    return true
  }

  override onSettled(): void {
    this.load.acknowledged++
  }

  override onRoom(): void {
    this.window.fill()
  }
}

export const MQTT_PEERS: LoadPeers = {
  publisher: (load, index) => new Publisher(load, index),
  subscriber: (load, index) => new Subscriber(load, index),
  idle: (load, index) => new Idle(load, `idle${index}`)
}
