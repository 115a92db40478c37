/** What the gateways of both protocols have in common: a broker in this process, a journal in memory, a TCP port. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { type Logger, pino } from 'pino'
import { Broker, type BrokerOptions } from '../../src/broker/broker.ts'
import { bury } from '../../src/broker/dead-letter.ts'
import { unhold } from '../../src/broker/deliver.ts'
import { queueClockOf } from '../../src/broker/queue-clock.ts'
import type { QueueLife } from '../../src/broker/queue-life.ts'
import { DEFAULT_LIMITS, type Limits } from '../../src/core/limits.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { Sockets } from '../../src/net/socket.ts'
import { MemoryJournal } from './memory-journal.ts'

export abstract class GatewayBase<Client extends { destroy(): void }> {
  readonly clock = new ManualClock(1_000_000, 1_700_000_000_000)
  readonly journal = new MemoryJournal(this.clock)
  readonly broker: Broker
  readonly sockets: Sockets
  /** Log lines, parsed. */
  readonly lines: Record<string, unknown>[] = []
  protected readonly log: Logger
  readonly #server: Server
  readonly #clients: Client[] = []
  #random = 0

  constructor(changes: Partial<Limits> | undefined, principalOf: BrokerOptions['principalOf']) {
    const limits = { ...DEFAULT_LIMITS, ...changes }
    this.log = pino({ level: 'info' }, { write: line => this.lines.push(JSON.parse(line)) })
    this.broker = new Broker({
      limits,
      clock: this.clock,
      log: this.log,
      random: bytes => Buffer.alloc(bytes, ++this.#random),
      principalOf
    })
    this.broker.attach(this.journal)
    this.broker.bury = (life, most) => bury(life as QueueLife, most)
    this.journal.onDurable = ticket => {
      for (const publisher of [...this.broker.waiting]) publisher.onDurable(ticket)
      unhold(this.broker, ticket)
    }
    this.sockets = new Sockets({
      outputBytesMax: limits.outputBytesMax,
      drainTimeoutMs: limits.drainTimeoutMs
    })
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, socket =>
      this.accept(socket)
    )
  }

  /** Gives a new connection to the front-end. */
  protected abstract accept(socket: Socket): void

  /** A raw client of the protocol, connected to `port`. */
  protected abstract clientOf(port: number): Promise<Client>

  /** A second has passed for the front-end. */
  protected abstract tick(): void

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** A TCP connection that has sent nothing. */
  async dial(): Promise<Client> {
    const client = await this.clientOf(this.port)
    this.#clients.push(client)
    return client
  }

  /** Closes every client but one, and keeps none of what they got. */
  forgetClients(kept: Client): void {
    for (const client of this.#clients.splice(0)) {
      if (client !== kept) client.destroy()
    }
    this.#clients.push(kept)
  }

  /** Time passes for the broker, a second at a time. */
  pass(seconds: number): void {
    for (let i = 0; i < seconds; i++) {
      this.clock.advance(1_000)
      this.tick()
      this.#runDeadlines()
    }
  }

  /** Time passes in queues. */
  async passIn(ms: number): Promise<void> {
    this.clock.advance(ms)
    for (let i = 0; i < 2; i++) await new Promise(resolve => setImmediate(resolve))
    queueClockOf(this.broker).run()
    for (let i = 0; i < 4; i++) await new Promise(resolve => setImmediate(resolve))
  }

  /** What is due by now, as the broker's own timer would find it. */
  #runDeadlines(): void {
    const { broker } = this
    // Not the broker's own, which stands within a turn.
    const now = this.journal.storeTime()
    for (;;) {
      const due = broker.deadlines.takeDue(now)
      if (due === null) return
      due.owner.onDue(broker)
    }
  }

  /** The disk's alarm. */
  alarm(isRaised: boolean): void {
    this.broker.diskAlarm = isRaised
    this.broker.judge()
    for (const publisher of this.broker.publishers) publisher.onDiskAlarm(isRaised)
  }

  /** First step of `close`: all clients are gone, without a word. */
  protected hangUp(): void {
    for (const client of this.#clients) client.destroy()
  }

  /** Last step of `close`: the port takes no more connections. */
  protected stopListening(): void {
    this.#server.close()
  }
}
