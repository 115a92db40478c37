/** The AMQP front-end and the broker in this process, over real TCP and a journal in memory. */
import type { Socket } from 'node:net'
import { DEFAULT_AMQP_OPTIONS } from '../../src/amqp/options.ts'
import { AmqpServer } from '../../src/amqp/server.ts'
import type { AuthenticationResult, Credentials } from '../../src/auth/authenticator.ts'
import type { Limits } from '../../src/core/limits.ts'
import { Principal } from '../../src/core/principal.ts'
import { GatewayBase } from './gateway-base.ts'
import { RawAmqp, type RawAmqpOptions } from './raw-amqp.ts'

export interface AmqpGatewayOptions {
  limits?: Partial<Limits>
  frameMax?: number
  channelMax?: number
  consumerTimeoutMs?: number
  principalOf?: (user: string, vhost: string) => Principal | null
  /** The user that TLS has verified, of every connection. */
  identity?: string
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

export class AmqpGateway extends GatewayBase<RawAmqp> {
  readonly amqp: AmqpServer
  readonly #identity: string | null
  /** Connections that ended. */
  closed = 0

  constructor(options: AmqpGatewayOptions = {}) {
    super(options.limits, options.principalOf ?? (() => null))
    this.#identity = options.identity ?? null
    this.amqp = new AmqpServer(
      this.broker,
      { authenticate: options.authenticate ?? admitGuest, exchange: () => null },
      this.sockets,
      {
        ...DEFAULT_AMQP_OPTIONS,
        platform: 'Motemq 0.0.0',
        frameMax: options.frameMax ?? DEFAULT_AMQP_OPTIONS.frameMax,
        channelMax: options.channelMax ?? DEFAULT_AMQP_OPTIONS.channelMax,
        consumerTimeoutMs: options.consumerTimeoutMs ?? DEFAULT_AMQP_OPTIONS.consumerTimeoutMs
      }
    )
  }

  protected override accept(socket: Socket): void {
    this.amqp.accept(socket, {
      vhost: '/',
      isTrusted: true,
      identity: this.#identity,
      onClosed: () => {
        this.closed++
      }
    })
  }

  protected override clientOf(port: number): Promise<RawAmqp> {
    return RawAmqp.dial(port)
  }

  protected override tick(): void {
    this.amqp.tick()
  }

  get url(): string {
    return `amqp://guest:guest@127.0.0.1:${this.port}`
  }

  /** A connection that is open, with channel 1 open. */
  async connect(options: RawAmqpOptions = {}): Promise<RawAmqp> {
    const client = await this.dial()
    await client.handshake(options)
    await client.openChannel(1)
    return client
  }

  close(): void {
    this.hangUp()
    this.amqp.close()
    this.stopListening()
  }
}
