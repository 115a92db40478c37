/** What the flags of `motemq pub` and `motemq sub` say. */
import type { Property } from '../client/properties.ts'
import type { SocksProxy } from '../client/socks.ts'
import type { Target } from '../client/target.ts'

/** A mistake of the one who types: the sentence is Mosquitto's where it has one. */
export class FlagMistake extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'FlagMistake'
  }
}

export type ClientCommand = 'pub' | 'sub'

export interface TlsFlags {
  cafile: string | null
  capath: string | null
  cert: string | null
  key: string | null
  ciphers: string | null
  insecure: boolean
  keyform: string | null
  engine: string | null
  psk: string | null
  pskIdentity: string | null
  alpn: string | null
  usesSystem: boolean
  version: string | null
}

/** The packets whose properties `-D` sets. */
export type PropertyCommand =
  | 'connect'
  | 'publish'
  | 'subscribe'
  | 'unsubscribe'
  | 'disconnect'
  | 'will'

export interface ClientFlags {
  readonly command: ClientCommand
  /** Of `-L` or `--unix`; null: `host` and `port`. */
  target: Target | null
  host: string | null
  /** 0: not given. */
  port: number
  bindAddress: string | null
  proxy: SocksProxy | null
  usesSrv: boolean
  id: string | null
  idPrefix: string | null
  cleanStart: boolean
  /** -1: not given. */
  sessionExpirySeconds: number
  keepaliveSeconds: number
  inflightMax: number
  username: string | null
  password: string | null
  version: 3 | 4 | 5
  qos: number
  topics: string[]
  isDebug: boolean
  isQuiet: boolean
  readonly tls: TlsFlags
  willTopic: string | null
  willPayload: string | null
  /** -1: not given. */
  willQos: number
  willRetain: boolean
  readonly properties: Record<PropertyCommand, Property[]>
  /** pub */
  body: { readonly kind: 'text' | 'file' | 'stdin' | 'lines'; readonly text: string } | null
  retain: boolean
  repeat: number
  repeatDelayMs: number
  /** sub; 0: without end. */
  count: number
  timeoutSeconds: number
  endsWhenSubscribed: boolean
  format: string | null
  hasNewline: boolean
  isPretty: boolean
  isVerbose: boolean
  /** Per cent of the messages that are shown. */
  randomFilter: number
  showsRetained: boolean
  retainedOnly: boolean
  removesRetained: boolean
  retainAsPublished: boolean
  filterOut: string[]
  unsubscribe: string[]
}

const NO_TLS: TlsFlags = {
  cafile: null,
  capath: null,
  cert: null,
  key: null,
  ciphers: null,
  insecure: false,
  keyform: null,
  engine: null,
  psk: null,
  pskIdentity: null,
  alpn: null,
  usesSystem: false,
  version: null
}

export function defaultFlags(command: ClientCommand): ClientFlags {
  return {
    command,
    target: null,
    host: null,
    port: 0,
    bindAddress: null,
    proxy: null,
    usesSrv: false,
    id: null,
    idPrefix: null,
    cleanStart: true,
    sessionExpirySeconds: -1,
    keepaliveSeconds: 60,
    inflightMax: 20,
    username: null,
    password: null,
    version: 4,
    qos: 0,
    topics: [],
    isDebug: false,
    isQuiet: false,
    tls: { ...NO_TLS },
    willTopic: null,
    willPayload: null,
    willQos: -1,
    willRetain: false,
    properties: {
      connect: [],
      publish: [],
      subscribe: [],
      unsubscribe: [],
      disconnect: [],
      will: []
    },
    body: null,
    retain: false,
    repeat: 1,
    repeatDelayMs: 0,
    count: 0,
    timeoutSeconds: 0,
    endsWhenSubscribed: false,
    format: null,
    hasNewline: true,
    isPretty: false,
    isVerbose: false,
    randomFilter: 100,
    showsRetained: true,
    retainedOnly: false,
    removesRetained: false,
    retainAsPublished: false,
    filterOut: [],
    unsubscribe: []
  }
}
