/** The enhanced authentication of one connection (MQTT 5 §4.12): see handle-auth.ts. */
import type {
  AuthenticationExchange,
  AuthenticationResult,
  Credentials
} from '../auth/authenticator.ts'

const NO_DATA = Buffer.alloc(0)

/** What a connection knows of its authentication method. */
export class Authentication {
  readonly method: string
  readonly credentials: Credentials
  /** The exchange that goes on; null: none. */
  exchange: AuthenticationExchange | null
  /** For the CONNACK: the method's last message. */
  lastData: Buffer
  /** Takes the outcome of the login; called once. */
  readonly onResult: (result: AuthenticationResult) => void

  constructor(
    method: string,
    credentials: Credentials,
    exchange: AuthenticationExchange,
    onResult: (result: AuthenticationResult) => void
  ) {
    this.method = method
    this.credentials = credentials
    this.exchange = exchange
    this.lastData = NO_DATA
    this.onResult = onResult
  }
}
