/** A bridge as the configuration has it: what `bridges.ts` reads. */

export interface MapRuleOption {
  readonly filter: string
  readonly exchange: string
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
}

export interface DeclaredOption {
  readonly name: string
  readonly type: string
  readonly arguments: Readonly<Record<string, string | number | boolean>>
}

export interface BridgeOption {
  readonly name: string
  /** Without the password. */
  readonly url: string
  readonly password: string
  readonly passwordFile: string
  readonly passwordEnv: string
  readonly vhost: string
  readonly topics: readonly string[]
  readonly bindings: readonly { readonly exchange: string; readonly key: string }[]
  readonly queue: string
  readonly deadLetterQueue: string
  readonly map: readonly MapRuleOption[]
  readonly declare: {
    readonly exchanges: readonly DeclaredOption[]
    readonly queues: readonly DeclaredOption[]
    readonly bindings: readonly {
      readonly queue: string
      readonly exchange: string
      readonly key: string
    }[]
  }
  readonly tls: {
    readonly ca: string
    readonly cert: string
    readonly key: string
    readonly servername: string
    readonly verify: boolean
  }
  readonly limits: {
    readonly messages: number
    readonly bytes: number
    readonly ageMs: number
    readonly overflow: 'drop-oldest' | 'refuse'
  }
  readonly window: number
  readonly stallMs: number
  readonly retryMinMs: number
  readonly retryMaxMs: number
  readonly refusalsMax: number
  readonly heartbeatSeconds: number
}
