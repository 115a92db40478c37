import type { Principal } from '../core/principal.ts'

/** What a client shows. `password` is binary (MQTT-3.1.3.5); null when none was sent. */
export interface Credentials {
  readonly protocol: 'mqtt' | 'amqp' | 'http'
  readonly username: string | null
  readonly password: Uint8Array | null
  readonly clientId: string
  readonly vhost: string
  /** The peer's address, without its port. */
  readonly peer: string
  /** The address is of this machine, or the listener says `insecure: true` (`Listener.isTrusted`). */
  readonly isLoopback: boolean
  /** The user that TLS has verified: by a certificate or a pre-shared key; null: nobody was. */
  readonly identity?: string | null
}

export type AuthenticationResult =
  | { readonly ok: true; readonly principal: Principal }
  | { readonly ok: false; readonly reason: RefusalReason }

/**
 * `busy`: too many attempts at once or too many failures: try later. `vhost-refused`: who it is, is known, but
 * this virtual host is not for that user.
 */
export type RefusalReason = 'bad-credentials' | 'not-authorized' | 'busy' | 'vhost-refused'

/** How an exchange stands after a step. */
export type ExchangeStep =
  | { readonly state: 'continue'; readonly data: Buffer }
  | { readonly state: 'done'; readonly data: Buffer; readonly principal: Principal }
  | { readonly state: 'failed'; readonly reason: RefusalReason }

/** A login of several messages: MQTT 5's enhanced authentication (§4.12), SASL. */
export interface AuthenticationExchange {
  /** Takes what the client sent. After `done` or `failed` it is over. */
  step(data: Uint8Array): ExchangeStep
}

/** Decides who a client is. Two kinds exist: users of this broker, and (later) tokens and hooks. */
export interface Authenticator {
  authenticate(credentials: Credentials): Promise<AuthenticationResult>
  /**
   * Begins an exchange; `credentials` are what came beside it, their password means nothing. Null: no such
   * method here.
   */
  exchange(method: string, credentials: Credentials): AuthenticationExchange | null
}
