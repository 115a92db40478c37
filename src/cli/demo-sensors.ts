/** The sensors of `motemq demo`: temperatures, humidities and doors, each with a connection of its own. */
import {
  type ClientEnd,
  type ClientHandler,
  type ClientOptions,
  defaultOptions,
  TAKEN
} from '../client/client-options.ts'
import { MqttClient } from '../client/mqtt-client.ts'
import type { TargetUrl } from '../client/target.ts'
import type { Sockets } from '../net/socket.ts'

const NOTHING = Buffer.alloc(0)

/** What kinds of sensors send: how often, at which QoS. */
const KINDS = [
  { name: 'temperature', qos: 0, everyMs: 200, retain: false },
  { name: 'humidity', qos: 1, everyMs: 300, retain: true },
  { name: 'door', qos: 2, everyMs: 500, retain: true }
] as const

export interface SensorOwner {
  /** A sensor's connection ended, and nobody wanted that. */
  onSensorLost(name: string, end: ClientEnd): void
}

export class Sensor implements ClientHandler {
  readonly name: string
  /** Its topic, UTF-8. */
  readonly topic: string
  readonly retain: boolean
  /** Handed to the socket; for QoS 1 and 2 it counts when it is settled. */
  published: number
  private readonly kind: (typeof KINDS)[number]
  private readonly owner: SensorOwner
  private readonly client: MqttClient
  private readonly topicBytes: Buffer
  private readonly random: () => number
  private value: number
  private timer: NodeJS.Timeout | null
  private opened: (() => void) | null
  private drained: (() => void) | null
  private isEnding: boolean

  constructor(
    index: number,
    root: string,
    url: TargetUrl,
    sockets: Sockets,
    owner: SensorOwner,
    random: () => number
  ) {
    this.kind = KINDS[index % KINDS.length]!
    this.name = `${this.kind.name}-${String(index + 1).padStart(2, '0')}`
    this.topic = `${root}/${this.name}/value`
    this.retain = this.kind.retain
    this.published = 0
    this.owner = owner
    this.topicBytes = Buffer.from(this.topic)
    this.random = random
    this.value = this.kind.name === 'door' ? 0 : 20 + random() * 30
    this.timer = null
    this.opened = null
    this.drained = null
    this.isEnding = false
    const payload = Buffer.from('offline')
    const options: ClientOptions = {
      ...defaultOptions(url.target, sockets),
      version: 4,
      clientId: `${root.replaceAll('/', '-')}-${this.name}`,
      username: url.username,
      password: url.password === null ? null : Buffer.from(url.password),
      will: {
        topic: `${root}/${this.name}/status`,
        payload,
        qos: 1,
        retain: false,
        properties: []
      },
      inflightMax: 100
    }
    this.client = new MqttClient(options, this)
  }

  connect(): Promise<void> {
    return new Promise(resolve => {
      this.opened = resolve
      this.client.connect()
    })
  }

  start(): void {
    const { everyMs } = this.kind
    this.timer = setInterval(() => this.publish(), everyMs * (0.8 + this.random() * 0.4))
  }

  /** Publishes nothing more; resolves when everything is acknowledged, or the connection is gone. */
  stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer)
    this.timer = null
    if (
      !this.client.isOpen ||
      (this.client.unsettledCount === 0 && this.client.pendingBytes === 0)
    ) {
      return Promise.resolve()
    }
    return new Promise(resolve => {
      const look = setInterval(() => {
        if (this.client.isOpen && this.client.pendingBytes + this.client.unsettledCount > 0) return
        this.drained?.()
      }, 20)
      this.drained = () => {
        clearInterval(look)
        resolve()
      }
    })
  }

  /** It dies: no goodbye, so that the broker publishes its will. */
  die(): void {
    this.isEnding = true
    this.client.abort()
  }

  close(): void {
    this.isEnding = true
    this.client.disconnect()
  }

  onConnected(): void {
    this.opened?.()
  }

  onMessage(): void {
    // It subscribes to nothing.
  }

  onSettled(): void {
    this.published++
  }

  onRoom(): void {
    // A sensor measures again later: what found no room is not kept.
  }

  onDisconnected(end: ClientEnd): void {
    if (this.timer !== null) clearInterval(this.timer)
    if (!this.isEnding) this.owner.onSensorLost(this.name, end)
    this.opened?.()
  }

  private publish(): void {
    const { qos, retain } = this.kind
    const payload = Buffer.from(this.measure())
    const answer = this.client.publish(this.topicBytes, payload, qos, retain, NOTHING, 0)
    if (qos === 0 && answer === TAKEN) this.published++
  }

  private measure(): string {
    if (this.kind.name === 'door') {
      this.value = 1 - this.value
      return this.value === 1 ? 'open' : 'closed'
    }
    this.value += this.random() - 0.5
    return this.value.toFixed(1)
  }
}
