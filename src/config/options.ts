/**
 * Every option once: its kind, default, bounds and help line. From this table come the types, the keys
 * of the file, the flags, the environment variables, `--help` and `motemq config print`.
 *
 * The file key of `log.level` is `log: { level: … }`, its flag `--log-level`, its variable
 * `MOTEMQ_LOG_LEVEL`. Numbers carry their unit in the name; wherever one is asked for, a text with a
 * unit (`10s`, `64 MiB`) is taken as well.
 */
import type { BridgeOption } from './bridge-option.ts'
import type { ListenerOption } from './listener-url.ts'
import { IDENTITIES, TLS_VERSIONS } from './tls-option.ts'
import type { QueueOption, TopicRuleOption, UserOption } from './structures.ts'

export type OptionKind =
  | 'text'
  | 'choice'
  | 'boolean'
  | 'count'
  | 'bytes'
  | 'ms'
  | 'seconds'
  | 'texts'
  | 'listeners'
  | 'users'
  | 'topics'
  | 'queues'
  | 'bridges'

const FILE_ONLY: ReadonlySet<OptionKind> = new Set(['users', 'topics', 'queues', 'bridges'])

export class Option<V> {
  readonly kind: OptionKind
  readonly defaultValue: V
  readonly help: string
  readonly choices: readonly string[]
  readonly min: number
  readonly max: number

  constructor(
    kind: OptionKind,
    defaultValue: V,
    help: string,
    bounds: { min?: number; max?: number; choices?: readonly string[] } = {}
  ) {
    this.kind = kind
    this.defaultValue = defaultValue
    this.help = help
    this.choices = bounds.choices ?? []
    this.min = bounds.min ?? 0
    this.max = bounds.max ?? Number.MAX_SAFE_INTEGER
  }

  /** Users, rules, queues and bridges are written in a file only. */
  get isFileOnly(): boolean {
    return FILE_ONLY.has(this.kind)
  }
}

const KIB = 1024
const MIB = 1024 * KIB
const DAY_SECONDS = 86_400
/** Node's timers take 31 bits of milliseconds. */
const TIMER_MAX_MS = 2 ** 31 - 1

const text = (value: string, help: string) => new Option<string>('text', value, help)
/** '' is none. */
const file = (help: string) => new Option<string>('text', '', help)
const flag = (value: boolean, help: string) => new Option<boolean>('boolean', value, help)
const choice = <const C extends string>(choices: readonly C[], value: C, help: string) =>
  new Option<C>('choice', value, help, { choices })
const count = (value: number, help: string, min = 1, max = 2 ** 31) =>
  new Option<number>('count', value, help, { min, max })
const bytes = (value: number, help: string, min = 1, max = 2 ** 40) =>
  new Option<number>('bytes', value, help, { min, max })
const ms = (value: number, help: string, min = 0) =>
  new Option<number>('ms', value, help, { min, max: TIMER_MAX_MS })
const seconds = (value: number, help: string, max = 2 ** 32 - 1) =>
  new Option<number>('seconds', value, help, { min: 0, max })

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const

/** The defaults of the limits are the same as `core/limits.ts`; a test holds the two together. */
const LIMITS = {
  topicBytesMax: bytes(65_535, 'longest topic', 1, 65_535),
  topicSeparatorsMax: count(200, 'most "/" in a topic or filter', 1, 65_535),
  clientIdBytesMax: bytes(256, 'longest MQTT client id', 23, 65_535),
  userPropertiesMax: count(64, 'most MQTT user properties in a packet', 0),
  mqttPacketBytesMax: bytes(2 * MIB, 'largest MQTT packet', 1 * KIB, 268_435_455),
  amqpMessageBytesMax: bytes(16 * MIB, 'largest AMQP message', 1 * KIB, 512 * MIB),
  preLoginBytesMax: bytes(64 * KIB, 'most bytes a client may send before its login', 1 * KIB),
  preLoginTotalBytesMax: bytes(
    8 * MIB,
    'the same, all connections before login together',
    64 * KIB
  ),
  loginTimeoutMs: ms(10_000, 'time a client has for its login', 100),
  subscriptionsMax: count(20_000, 'most subscriptions of a client'),
  wildcardSubscriptionsMax: count(1_000, 'most subscriptions with wildcards of a client', 0),
  filtersPerPacketMax: count(1_000, 'most filters in a SUBSCRIBE'),
  retainedMax: count(100_000, 'most retained messages of a virtual host', 0),
  retainedBytesMax: bytes(64 * MIB, 'most bytes of retained messages of a virtual host', 0),
  queuesMax: count(1_000_000, 'most queues'),
  bindingsMax: count(1_000_000, 'most bindings of a virtual host'),
  vhostsMax: count(1_000, 'most virtual hosts', 1, 100_000),
  sessionMessagesMax: count(
    100_000,
    'most messages that wait for a session; the oldest are dropped'
  ),
  sessionBytesMax: bytes(64 * MIB, 'most bytes that wait for a session; the oldest are dropped'),
  sessionsMax: count(50_000, 'with so many sessions none that outlasts its client is opened', 0),
  willBytesMax: bytes(16 * MIB, 'most bytes of wills, of all clients together', 0),
  sharedMessagesMax: count(
    100_000,
    'most messages that wait for a shared subscription; the oldest are dropped'
  ),
  sharedBytesMax: bytes(
    64 * MIB,
    'most bytes that wait for a shared subscription; the oldest are dropped'
  ),
  delayedMessagesMax: count(
    2_000_000,
    'most delayed messages, of all exchanges together; more are refused',
    0
  ),
  deduplicationKeysMax: count(
    1_000_000,
    'most deduplication keys, of all exchanges and queues; the oldest are forgotten',
    1
  ),
  sharedMembersMax: count(1_000, 'most sessions of a shared subscription'),
  inflightMax: count(1_000, 'most open deliveries to an MQTT client', 1, 65_535),
  receiveMaximum: count(1_000, 'receive maximum announced to MQTT 5 clients', 1, 65_535),
  topicAliasMax: count(100, 'most topic aliases of an MQTT 5 connection, each way', 0, 65_535),
  topicAliasBytesMax: bytes(64 * KIB, 'most bytes of the topics behind them, each way', 1 * KIB),
  channelUnackedMax: count(1_000_000, 'most open deliveries of an AMQP channel without prefetch'),
  channelBytesMax: bytes(
    128 * MIB,
    'most bytes of unfinished messages and open transactions, over AMQP; half of it for a connection',
    MIB
  ),
  outputBytesMax: bytes(MIB, 'most bytes that wait for a slow client to read', 64 * KIB),
  drainTimeoutMs: ms(30_000, 'a client that reads nothing for this long is closed', 1_000),
  routeCacheMax: count(10_000, 'most topics whose route is remembered', 0),
  memoryBytesMax: bytes(16 * MIB, 'bodies of messages that are in memory only', MIB),
  hotEntriesMax: count(500_000, 'most waiting messages whose places are in memory', 1_000),
  willRestartGraceMs: ms(30_000, 'wills wait this much longer after a restart of the broker'),
  rejectHoldMs: ms(10_000, 'time an MQTT 3.1.1 publisher is held by a full reject-publish queue'),
  memoryAlarmBytes: bytes(
    0,
    'with so much memory in use publishers are held; 0: 80 % of the cgroup or machine',
    0
  ),
  alarmHoldMs: ms(60_000, 'time an MQTT 3.1.1 publisher is held by a full disk'),
  alarmHoldBytes: bytes(64 * KIB, 'bytes read from such a publisher while it is held', 1 * KIB)
} as const

export const OPTIONS = {
  data: text('./data', 'folder of the journal, made when missing'),
  listeners: new Option<readonly ListenerOption[]>('listeners', [], 'URLs to listen on'),
  vhost: text('/', 'virtual host of listeners that name none'),
  vhosts: new Option<readonly string[]>('texts', [], 'virtual hosts made at the start'),
  definitions: file("definitions in RabbitMQ's JSON, taken at each start"),
  sync: choice(['always'], 'always', 'an acknowledgement leaves after its data is on the disk'),
  syncIdleMs: ms(1_000, 'what nobody waits for is synced at most this late', 10),
  queueQos0: flag(false, 'keep QoS 0 messages for sessions that are offline'),
  sessionExpirySecondsMax: seconds(30 * DAY_SECONDS, 'longest time a session outlives its client'),
  maxKeepaliveSeconds: seconds(0, 'longest MQTT keepalive; 0: any', 65_535),
  sys: {
    intervalSeconds: seconds(10, 'how often `$SYS` topics are renewed; 0: there are none', 86_400),
    clientStates: flag(true, 'tell in `$SYS` topics which MQTT clients are there')
  },
  log: {
    level: choice(LOG_LEVELS, 'info', 'least level that is logged'),
    format: choice(['auto', 'text', 'json'], 'auto', 'auto: text on a terminal, else JSON lines')
  },
  http: {
    hosts: new Option<readonly string[]>('texts', [], 'Host names answered besides loopback names')
  },
  websocket: {
    origins: new Option<readonly string[]>(
      'texts',
      [],
      'origins of web pages that may connect; none: any, but loopback ones while there are no users'
    )
  },
  tls: {
    cert: file('certificate of the broker, PEM, with what is between it and the authority'),
    key: file('its private key, PEM'),
    ca: file('authorities whose certificates clients may show, PEM'),
    crl: file('certificates that are refused, PEM'),
    requireCert: flag(false, 'a client must show a certificate'),
    useIdentity: choice(IDENTITIES, 'none', "where a certificate has the user's name"),
    psk: file('pre-shared keys instead of certificates, a line identity:hexkey each'),
    usePskIdentity: flag(false, "the identity of a pre-shared key is the user's name"),
    minVersion: choice(TLS_VERSIONS, 'TLSv1.2', 'oldest version of TLS'),
    ciphers: file('ciphers, as OpenSSL names them, instead of our choice')
  },
  amqp: {
    product: text('RabbitMQ', 'product told to AMQP clients; some stall with any other'),
    version: text('3.13.7', 'version told to AMQP clients'),
    consumerTimeoutMs: ms(
      1_800_000,
      'an AMQP delivery that is open for so long goes back, its channel is closed; 0: never'
    )
  },
  mqtt: {
    responseInformation: text(
      '',
      'prefix of response topics for MQTT 5 clients that ask for one; %c: the client id'
    ),
    serverReference: text('', 'servers that MQTT 5 clients are told to use while this one drains'),
    packetLimits: new Option<readonly string[]>(
      'texts',
      [],
      'largest PUBLISH to MQTT 3.1.1 clients: client:ID=BYTES (with *), listener:PORT=BYTES'
    )
  },
  connections: {
    max: count(0, 'most connections; 0: the limit on open files less 64', 0),
    perSecond: count(5_000, 'new connections a second of a listener; more wait'),
    burst: count(10_000, 'new connections of a listener taken at once'),
    handshakes: count(500, 'TLS handshakes under way at once; more wait')
  },
  disk: {
    yellowFreeBytes: bytes(
      0,
      'below so much free space dead log is given back early; 0: the smaller of 20 % and 1 GiB',
      0
    ),
    redFreeBytes: bytes(
      0,
      'publishers are stopped below so much free space; 0: the smaller of 5 % and 256 MiB',
      0
    )
  },
  limits: LIMITS,
  topics: new Option<readonly TopicRuleOption[]>('topics', [], 'topic rules of every user'),
  users: new Option<readonly UserOption[]>('users', [], 'users, beside those of `motemq users`'),
  queues: new Option<readonly QueueOption[]>('queues', [], 'queues declared at the start'),
  bridges: new Option<readonly BridgeOption[]>(
    'bridges',
    [],
    'far sides that messages are carried on to'
  )
} as const

export interface OptionGroup {
  readonly [key: string]: Option<unknown> | OptionGroup
}

export type OptionsOf<T> = {
  -readonly [K in keyof T]: T[K] extends Option<infer V> ? V : OptionsOf<T[K]>
}

/** The first user, made at the start when there is none; from the environment only. */
export interface FirstUser {
  readonly name: string
  readonly password: string
}

export type Options = OptionsOf<typeof OPTIONS> & { firstUser: FirstUser | null }

/** Variables that are no options. */
export const OTHER_VARIABLES = ['MOTEMQ_CONFIG', 'MOTEMQ_USER', 'MOTEMQ_PASSWORD'] as const

export interface NamedOption {
  /** `log.level` */
  readonly key: string
  readonly path: readonly string[]
  readonly option: Option<unknown>
  /** `--log-level`; '' when the option has none. */
  readonly flag: string
  /** `MOTEMQ_LOG_LEVEL`; '' when the option has none. */
  readonly variable: string
}

function collect(group: OptionGroup, path: readonly string[], found: NamedOption[]): NamedOption[] {
  for (const [name, entry] of Object.entries(group)) {
    const here = [...path, name]
    if (entry instanceof Option) found.push(nameOption(here, entry))
    else collect(entry, here, found)
  }
  return found
}

function nameOption(path: readonly string[], option: Option<unknown>): NamedOption {
  const words = path
    .join('-')
    .replace(/[A-Z]/g, letter => `-${letter}`)
    .toLowerCase()
  const named = option.kind === 'listeners' ? 'listen' : words
  return {
    key: path.join('.'),
    path,
    option,
    flag: option.isFileOnly ? '' : `--${named}`,
    variable: option.isFileOnly ? '' : `MOTEMQ_${named.replaceAll('-', '_').toUpperCase()}`
  }
}

/** All options in the order of the table. */
export const NAMED_OPTIONS: readonly NamedOption[] = collect(OPTIONS, [], [])

/** The bounds in the shape of `core/limits.ts`. */
export function limitsOf(options: Options) {
  return {
    ...options.limits,
    syncIdleMs: options.syncIdleMs,
    queueQos0: options.queueQos0,
    sessionExpirySecondsMax: options.sessionExpirySecondsMax,
    maxKeepaliveSeconds: options.maxKeepaliveSeconds
  }
}
