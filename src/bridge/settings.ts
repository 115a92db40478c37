/** What a bridge is told by its configuration. The config file's own types are the same: a bridge does not read files of options. */

export interface MapRule {
  readonly filter: string
  readonly exchange: string
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
}

export interface DeclaredThing {
  readonly name: string
  /** Of an exchange. */
  readonly type: string
  readonly arguments: Readonly<Record<string, string | number | boolean>>
}

export interface DeclaredBinding {
  readonly queue: string
  readonly exchange: string
  readonly key: string
}

/** What is to be there at the far side, declared whenever the link opens. */
export interface Topology {
  readonly exchanges: readonly DeclaredThing[]
  readonly queues: readonly DeclaredThing[]
  readonly bindings: readonly DeclaredBinding[]
}

/** Paths of files; '' is none. */
export interface LinkTls {
  readonly ca: string
  readonly cert: string
  readonly key: string
  readonly servername: string
  /** False: any certificate is taken. */
  readonly verify: boolean
}

export interface BridgeSettings {
  readonly name: string
  /** With the user, without a password. */
  readonly url: string
  /** Of the URL; else it is read from the file, or from the variable. '' is none. */
  readonly password: string
  readonly passwordFile: string
  readonly passwordEnv: string
  readonly vhost: string
  /** MQTT topic filters. */
  readonly topics: readonly string[]
  readonly bindings: readonly { readonly exchange: string; readonly key: string }[]
  /** A queue that is there already, read instead of one of its own; '': its own. */
  readonly queue: string
  readonly deadLetterQueue: string
  readonly map: readonly MapRule[]
  readonly declare: Topology
  readonly tls: LinkTls
  readonly limits: {
    /** 0: no bound. */
    readonly messages: number
    readonly bytes: number
    readonly ageMs: number
    readonly overflow: 'drop-oldest' | 'refuse'
  }
  /** Most messages that were sent and are not confirmed. */
  readonly window: number
  readonly stallMs: number
  readonly retryMinMs: number
  readonly retryMaxMs: number
  readonly refusalsMax: number
  readonly heartbeatSeconds: number
}

/** The queue that a bridge reads. */
export function queueNameOf({ name, queue }: BridgeSettings): string {
  return queue === '' ? `bridge.${name}` : queue
}

/** Where what the far side refuses for good goes. */
export function deadNameOf({ name, deadLetterQueue }: BridgeSettings): string {
  return deadLetterQueue === '' ? `bridge.${name}.dead` : deadLetterQueue
}
