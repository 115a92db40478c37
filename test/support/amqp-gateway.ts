/** The AMQP front-end and the broker in this process, over real TCP and a journal in memory. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { pino } from 'pino'
import { DEFAULT_AMQP_OPTIONS } from '../../src/amqp/options.ts'
import { AmqpServer } from '../../src/amqp/server.ts'
import type { AuthenticationResult, Credentials } from '../../src/auth/authenticator.ts'
import { Broker } from '../../src/broker/broker.ts'
import { unhold } from '../../src/broker/deliver.ts'
import { DEFAULT_LIMITS, type Limits } from '../../src/core/limits.ts'
import { Principal } from '../../src/core/principal.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { Sockets } from '../../src/net/socket.ts'
import { MemoryJournal } from './memory-journal.ts'
import { RawAmqp, type RawAmqpOptions } from './raw-amqp.ts'

export interface AmqpGatewayOptions {
  limits?: Partial<Limits>
  frameMax?: number
  channelMax?: number
  authenticate?: (credentials: Credentials) => Promise<AuthenticationResult>
}

/** guest/guest, who may do everything. */
function admitGuest(credentials: Credentials): Promise<AuthenticationResult> {
  const { username, password, vhost } = credentials
  if (username !== 'guest' || Buffer.from(password ?? []).toString() !== 'guest') {
    return Promise.resolve({ ok: false, reason: 'bad-credentials' })
  }
  return Promise.resolve({ ok: true, principal: new Principal('guest', [], vhost, [], [], true) })
}

export class AmqpGateway {
  readonly clock = new ManualClock(1_000_000, 1_700_000_000_000)
  readonly journal = new MemoryJournal(this.clock)
  readonly broker: Broker
  readonly amqp: AmqpServer
  readonly sockets: Sockets
  /** Log lines, parsed. */
  readonly lines: Record<string, unknown>[] = []
  /** Connections that ended. */
  closed = 0
  readonly #server: Server
  readonly #clients: RawAmqp[] = []
  #random = 0

  constructor(options: AmqpGatewayOptions = {}) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits }
    const log = pino({ level: 'info' }, { write: line => this.lines.push(JSON.parse(line)) })
    this.broker = new Broker({
      limits,
      clock: this.clock,
      log,
      random: bytes => Buffer.alloc(bytes, ++this.#random),
      principalOf: () => null
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
    this.amqp = new AmqpServer(
      this.broker,
      { authenticate: options.authenticate ?? admitGuest },
      this.sockets,
      {
        ...DEFAULT_AMQP_OPTIONS,
        platform: 'Motemq 0.0.0',
        frameMax: options.frameMax ?? DEFAULT_AMQP_OPTIONS.frameMax,
        channelMax: options.channelMax ?? DEFAULT_AMQP_OPTIONS.channelMax
      }
    )
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, socket =>
      this.amqp.accept(socket, {
        vhost: '/',
        isTrusted: true,
        onClosed: () => {
          this.closed++
        }
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

  get url(): string {
    return `amqp://guest:guest@127.0.0.1:${this.port}`
  }

  /** A TCP connection that has sent nothing. */
  async dial(): Promise<RawAmqp> {
    const client = await RawAmqp.dial(this.port)
    this.#clients.push(client)
    return client
  }

  /** A connection that is open, with channel 1 open. */
  async connect(options: RawAmqpOptions = {}): Promise<RawAmqp> {
    const client = await this.dial()
    await client.handshake(options)
    await client.openChannel(1)
    return client
  }

  /** Time passes for the front-end, a second at a time. */
  pass(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.clock.advance(1_000)
      this.amqp.tick()
    }
  }

  /** The disk's alarm. */
  alarm(isRaised: boolean): void {
    this.broker.diskAlarm = isRaised
    this.broker.judge()
    for (const publisher of [...this.broker.publishers]) publisher.onDiskAlarm(isRaised)
  }

  close(): void {
    for (const client of this.#clients) client.destroy()
    this.amqp.close()
    this.#server.close()
  }
}
