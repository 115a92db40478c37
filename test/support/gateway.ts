/** The MQTT front-end and the broker in this process, over real TCP and a journal in memory. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { pino } from 'pino'
import type { AuthenticationResult, Credentials } from '../../src/auth/authenticator.ts'
import { Broker } from '../../src/broker/broker.ts'
import { unhold } from '../../src/broker/deliver.ts'
import { DEFAULT_LIMITS, type Limits } from '../../src/core/limits.ts'
import { Principal } from '../../src/core/principal.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { MqttServer } from '../../src/mqtt/server.ts'
import { Sockets } from '../../src/net/socket.ts'
import { MemoryJournal } from './memory-journal.ts'
import { RawMqtt } from './raw-mqtt.ts'

export interface GatewayOptions {
  limits?: Partial<Limits>
  authenticate?: (credentials: Credentials) => Promise<AuthenticationResult>
}

export const ANYBODY = new Principal('', [], '/', [], [], true)

export class Gateway {
  readonly clock = new ManualClock(1_000_000, 1_700_000_000_000)
  readonly journal = new MemoryJournal(this.clock)
  readonly broker: Broker
  readonly mqtt: MqttServer
  readonly sockets: Sockets
  /** Log lines, parsed. */
  readonly lines: Record<string, unknown>[] = []
  readonly #server: Server
  readonly #clients: RawMqtt[] = []
  #random = 0

  constructor(options: GatewayOptions = {}) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits }
    const log = pino({ level: 'info' }, { write: line => this.lines.push(JSON.parse(line)) })
    this.broker = new Broker({
      limits,
      clock: this.clock,
      log,
      random: bytes => Buffer.alloc(bytes, ++this.#random),
      principalOf: () => ANYBODY
    })
    this.broker.attach(this.journal)
    this.journal.onDurable = ticket => {
      for (const publisher of [...this.broker.waiting]) publisher.onDurable(ticket)
      unhold(this.broker, ticket)
    }
    this.sockets = new Sockets({
      outputBytesMax: limits.outputBytesMax,
      drainTimeoutMs: limits.drainTimeoutMs
    })
    const authenticate =
      options.authenticate ?? (() => Promise.resolve({ ok: true, principal: ANYBODY } as const))
    this.mqtt = new MqttServer({
      broker: this.broker,
      authenticator: { authenticate },
      sockets: this.sockets,
      log
    })
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, socket =>
      this.mqtt.accept(socket, {
        vhost: '/',
        isTrusted: true,
        protocol: 'mqtt',
        onClosed: () => undefined
      })
    )
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** A TCP connection that has sent nothing. */
  async dial(): Promise<RawMqtt> {
    const client = await RawMqtt.dial(this.port)
    this.#clients.push(client)
    return client
  }

  /** Time passes for the broker, a second at a time. */
  pass(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.clock.advance(1_000)
      this.mqtt.tick()
    }
  }

  /** Turns pass until something holds. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise(setImmediate)
  }

  /** The disk's alarm. */
  alarm(isRaised: boolean): void {
    this.broker.diskAlarm = isRaised
    this.broker.judge()
    for (const publisher of this.broker.publishers) publisher.onDiskAlarm(isRaised)
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy()
    await this.mqtt.close()
    this.#server.close()
  }
}
