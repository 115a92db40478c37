/**
 * Motemq inside a program of yours: `createBroker` runs the same broker that `motemq start` runs, in your
 * process, on a data folder of its own. Publish and subscribe without a socket, or let devices and
 * backends in by naming listeners.
 */
import { EventEmitter } from 'node:events'
import { resolve } from 'node:path'
import { type Logger, pino } from 'pino'
import type { Broker } from './broker/broker.ts'
import type { BrokerEventMap } from './broker/events.ts'
import { LocalClient, type LocalDelivery } from './broker/local-client.ts'
import {
  type ListenerOption,
  type ListenerScheme,
  parseListenerUrl
} from './config/listener-url.ts'
import { ConfigError, Mistakes } from './config/mistake.ts'
import {
  LOG_LEVELS,
  NAMED_OPTIONS,
  Option,
  OPTIONS,
  type OptionGroup,
  type Options
} from './config/options.ts'
import { StartRefusedError } from './config/start-rules.ts'
import type { QueueOption } from './config/structures.ts'
import { withPaths } from './config/tls.ts'
import { parseValue } from './config/values.ts'
import { BrokerError, type ErrorName } from './core/errors.ts'
import { DEFAULT_LIMITS } from './core/limits.ts'
import { MessageProperties } from './core/properties.ts'
import { isValidFilter } from './core/topic.ts'
import { JournalError } from './journal/journal-error.ts'
import { encodeProperties } from './mqtt/properties.ts'
import { ListenError } from './net/listener.ts'
import { type RunningServer, startServer } from './server.ts'

export type { BrokerEventMap, ErrorName, Logger }
export { BrokerError, ConfigError, JournalError, ListenError, StartRefusedError }

/** Level of the broker's own log lines. */
export type LogLevel = (typeof LOG_LEVELS)[number]

/** A queue that is there when `start` resolves; one that exists with other arguments makes it reject. */
export interface QueueDeclaration {
  readonly name: string
  /** Default: `/`, the only virtual host there is. */
  readonly vhost?: string
  /** Keeps its messages over a restart, whatever their QoS. Default: true. */
  readonly durable?: boolean
  /** RabbitMQ's arguments, such as `x-max-length`. */
  readonly arguments?: Readonly<Record<string, string | number | boolean>>
  /** MQTT topic filters such as `sensors/#`, or an exchange with an AMQP binding key. */
  readonly bindings?: readonly (string | { readonly exchange: string; readonly key?: string })[]
}

/** Options of `createBroker`. What is left out has the default that docs/configuration.md shows. */
export interface BrokerOptions {
  /** Folder of the journal, made when it is missing. One process at a time may use it. */
  readonly data: string
  /**
   * URLs to listen on, such as `mqtt://127.0.0.1:1883`, `amqp://127.0.0.1:5672`, `http://127.0.0.1:15672`;
   * port 0 takes a free one. Default: none, nobody else reaches this broker.
   */
  readonly listeners?: readonly string[]
  /** Declared at the start. */
  readonly queues?: readonly QueueDeclaration[]
  /** Certificates and keys of the listeners with TLS, such as `mqtts://`; paths of files. */
  readonly tls?: Partial<Options['tls']>
  /** Bounds; each carries its unit in its name. */
  readonly limits?: Partial<Options['limits']>
  /** A user with the tag `administrator`, made when the data folder has no user yet. */
  readonly firstUser?: { readonly name: string; readonly password: string }
  /** Keep QoS 0 messages for MQTT sessions that are offline. Default: false. */
  readonly queueQos0?: boolean
  /** What nobody waits for is on the disk at most this many milliseconds later. Default: 1,000. */
  readonly syncIdleMs?: number
  /** A pino logger, or the level of one that writes JSON lines to standard output. Default: `warn`. */
  readonly log?: Logger | LogLevel
}

/** MQTT 5 properties of a message. */
export interface PublishProperties {
  readonly contentType?: string
  /** Where an answer is to be published. */
  readonly responseTopic?: string
  readonly correlationData?: Uint8Array
  /** The payload is UTF-8 text. */
  readonly isText?: boolean
  /** Whole seconds until the message is dropped where it still waits; at least 1. */
  readonly expirySeconds?: number
  /** In order; names may repeat. */
  readonly userProperties?: readonly (readonly [name: string, value: string])[]
}

export interface PublishOptions {
  /** Default: 1. In the process 1 and 2 promise the same; to subscribers it is the most they get. */
  readonly qos?: 0 | 1 | 2
  /** Kept as the topic's retained message; an empty payload removes it. Default: false. */
  readonly retain?: boolean
  readonly properties?: PublishProperties
}

export interface SubscribeOptions {
  /** Default: 1. */
  readonly qos?: 0 | 1
  /** Whether the messages retained now come first. Default: true. */
  readonly retained?: boolean
}

/** A message that reached a subscription. Its bytes are the receiver's own. */
export interface ReceivedMessage {
  /** With `/`, also when it was published over AMQP. */
  readonly topic: string
  readonly payload: Buffer
  readonly qos: 0 | 1
  /** It was retained before this subscription was made. */
  readonly retain: boolean
  readonly properties: PublishProperties
}

/** Called with one message after the other; the next one comes when the returned promise is settled. */
export type MessageHandler = (message: ReceivedMessage) => void | Promise<void>

/** A listener with the port that it really has. */
export interface ListenerAddress {
  readonly scheme: ListenerScheme
  readonly host: string
  readonly port: number
}

/** A broker in this process. Made by `createBroker`. */
export interface EmbeddedBroker {
  /** Real URLs of the listeners while it runs, else empty. */
  readonly urls: readonly string[]
  readonly addresses: readonly ListenerAddress[]
  readonly isRunning: boolean
  /**
   * Opens the data folder, replays it, declares the queues and listens.
   *
   * @throws JournalError the folder is locked, somebody else's, of a newer format, or cannot be used
   * @throws ListenError a listener cannot be opened; `code` is the system's, such as `EADDRINUSE`
   * @throws StartRefusedError a listener would be open to everybody; nothing was opened
   * @throws BrokerError a queue exists with other arguments (`preconditionFailed`)
   */
  start(): Promise<void>
  /** Ends the subscriptions, makes durable what was taken, closes every connection. Idempotent. */
  stop(): Promise<void>
  /**
   * Publishes a message. The promise resolves when everything that keeps it (durable queues, sessions
   * that outlive their connection, the retained slot) has it on the disk; with QoS 0 at once.
   *
   * @throws BrokerError `topicInvalid`, `tooLarge`, `notAuthorized` (a topic that begins with `$`),
   * `queueFull` (a queue with `reject-publish`; other queues may have it), `quotaExceeded` (the retained
   * messages' bound, or more than 10,000 messages wait for the disk), `diskAlarm`, `journalFailed`,
   * `shuttingDown`, `argumentInvalid`, `notAllowed` (it does not run)
   */
  publish(topic: string, payload: string | Uint8Array, options?: PublishOptions): Promise<void>
  /**
   * Subscribes a handler. It gets what is published from now on while this process lives; to have messages
   * kept over a restart declare a durable queue. Each subscription gets its own copy of a message. With
   * QoS 1 messages wait for a slow handler (up to `limits.sessionMessagesMax`), with QoS 0 they are dropped
   * beyond `limits.outputBytesMax`. What the handler throws is thrown as an uncaught exception.
   *
   * @returns a function that ends the subscription
   * @throws BrokerError `filterInvalid`, `quotaExceeded`, `notAllowed` (it does not run)
   */
  subscribe(filter: string, handler: MessageHandler, options?: SubscribeOptions): () => void
  /** Calls `listener` for what happens in the broker: connections, queues, the disk; never for a message. */
  on<E extends keyof BrokerEventMap>(
    event: E,
    listener: (...args: BrokerEventMap[E]) => void
  ): EmbeddedBroker
  off<E extends keyof BrokerEventMap>(
    event: E,
    listener: (...args: BrokerEventMap[E]) => void
  ): EmbeddedBroker
}

/**
 * Makes a broker; `start` starts it.
 *
 * @throws ConfigError with one sentence a mistake in the options
 */
export function createBroker(options: BrokerOptions): EmbeddedBroker {
  return new Embedded(fullOptions(options), loggerOf(options.log ?? 'warn'))
}

const EVENTS = [
  'clientConnected',
  'clientDisconnected',
  'sessionEnded',
  'queueDeclared',
  'queueDeleted',
  'diskLevel',
  'journalFailed'
] as const satisfies readonly (keyof BrokerEventMap)[]
const STRING_BYTES_MAX = 65_535

class Embedded implements EmbeddedBroker {
  readonly #options: Options
  readonly #log: Logger
  readonly #events = new EventEmitter()
  #server: RunningServer | null = null
  #client: LocalClient | null = null
  #starting: Promise<void> | null = null
  #stopping: Promise<void> | null = null

  constructor(options: Options, log: Logger) {
    this.#options = options
    this.#log = log
  }

  get urls(): readonly string[] {
    return this.#server?.urls ?? []
  }

  get addresses(): readonly ListenerAddress[] {
    return this.urls.map(text => {
      const url = new URL(text)
      const scheme = url.protocol.slice(0, -1) as ListenerAddress['scheme']
      const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
      return { scheme, host, port: Number(url.port === '' ? 80 : url.port) }
    })
  }

  get isRunning(): boolean {
    return this.#client !== null
  }

  start(): Promise<void> {
    this.#starting ??= this.#start()
    return this.#starting
  }

  async #start(): Promise<void> {
    try {
      await this.#stopping
      this.#stopping = null
      const server = await startServer(this.#options, this.#log)
      this.#forward(server.broker)
      this.#server = server
      const vhost = server.broker.state.vhost(this.#options.vhost)!
      this.#client = new LocalClient(server.broker, vhost)
    } catch (error) {
      this.#starting = null
      throw error
    }
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    const starting = this.#starting
    if (starting === null) return
    // Whoever started it is told why it failed.
    await starting.catch(() => undefined)
    this.#starting = null
    const client = this.#client
    const server = this.#server
    this.#client = null
    client?.unsubscribeAll()
    try {
      await server?.close()
    } finally {
      client?.close()
      this.#server = null
    }
  }

  async publish(
    topic: string,
    payload: string | Uint8Array,
    options: PublishOptions = {}
  ): Promise<void> {
    const { qos = 1, retain = false, properties = {} } = options
    if (qos !== 0 && qos !== 1 && qos !== 2) throw badArgument('qos is not 0, 1 or 2')
    const { expirySeconds = 0 } = properties
    if (!Number.isInteger(expirySeconds) || expirySeconds < 0 || expirySeconds > 0xffff_ffff) {
      throw badArgument('expirySeconds is no whole number of seconds')
    }
    await this.#running().publish({
      topic,
      payload: typeof payload === 'string' ? Buffer.from(payload) : payload,
      qos,
      retain,
      properties: bytesOf(properties),
      expirySeconds
    })
  }

  subscribe(filter: string, handler: MessageHandler, options: SubscribeOptions = {}): () => void {
    const { qos = 1, retained = true } = options
    if (qos !== 0 && qos !== 1) throw badArgument('qos is not 0 or 1')
    const subscription = this.#running().subscribe(filter, {
      qos,
      retained,
      handler: delivery => handler(receivedOf(delivery))
    })
    return () => subscription.close()
  }

  on<E extends keyof BrokerEventMap>(
    event: E,
    listener: (...args: BrokerEventMap[E]) => void
  ): this {
    this.#events.on(event, listener as (...args: unknown[]) => void)
    return this
  }

  off<E extends keyof BrokerEventMap>(
    event: E,
    listener: (...args: BrokerEventMap[E]) => void
  ): this {
    this.#events.off(event, listener as (...args: unknown[]) => void)
    return this
  }

  #running(): LocalClient {
    if (this.#client === null) throw new BrokerError('notAllowed', 'the broker does not run')
    return this.#client
  }

  #forward(broker: Broker): void {
    for (const name of EVENTS) {
      broker.events.on(name, (...args: unknown[]) => this.#events.emit(name, ...args))
    }
  }
}

function loggerOf(log: Logger | LogLevel): Logger {
  if (typeof log !== 'string') return log
  if (!LOG_LEVELS.includes(log)) {
    throw new ConfigError([`log: ${JSON.stringify(log)} is not one of ${LOG_LEVELS.join(', ')}`])
  }
  return pino({ level: log })
}

/** The options as the server takes them. Files and variables are the program's business, not ours. */
function fullOptions(given: BrokerOptions): Options {
  const mistakes = new Mistakes()
  const options = defaultsOf(OPTIONS) as unknown as Options
  options.data = resolve(readValue('data', given.data, mistakes) as string)
  options.listeners = readListeners(given.listeners ?? [], mistakes)
  options.queues = (given.queues ?? []).map(queue => readQueue(queue, mistakes))
  options.firstUser = given.firstUser ?? null
  options.queueQos0 = given.queueQos0 ?? options.queueQos0
  if (given.syncIdleMs !== undefined) {
    options.syncIdleMs = readValue('syncIdleMs', given.syncIdleMs, mistakes) as number
  }
  for (const [name, value] of Object.entries(given.tls ?? {})) {
    options.tls = { ...options.tls, [name]: readValue(`tls.${name}`, value, mistakes) }
  }
  options.tls = withPaths(options.tls, process.cwd())
  for (const [name, value] of Object.entries(given.limits ?? {})) {
    const limit = readValue(`limits.${name}`, value, mistakes) as number
    options.limits = { ...options.limits, [name]: limit }
  }
  mistakes.throwIfAny()
  return options
}

function defaultsOf(group: OptionGroup): object {
  const entries = Object.entries(group)
  return Object.fromEntries(
    entries.map(([key, entry]) => [
      key,
      entry instanceof Option ? entry.defaultValue : defaultsOf(entry)
    ])
  )
}

function readValue(key: string, raw: unknown, mistakes: Mistakes): unknown {
  const named = NAMED_OPTIONS.find(candidate => candidate.key === key)
  if (named === undefined) {
    mistakes.add(key, 'is not known')
    return null
  }
  const parsed = parseValue(named.option, raw)
  if (parsed.ok) return parsed.value
  mistakes.add(key, parsed.why)
  return named.option.defaultValue
}

function readListeners(urls: readonly string[], mistakes: Mistakes): ListenerOption[] {
  const found: ListenerOption[] = []
  for (const url of urls) {
    const parsed = parseListenerUrl(url)
    if (parsed.ok) found.push(...parsed.listeners)
    else mistakes.add('listeners', parsed.why)
  }
  return found
}

function readQueue(queue: QueueDeclaration, mistakes: Mistakes): QueueOption {
  const { name, vhost = '/', durable = true, arguments: table = {}, bindings = [] } = queue
  if (name === '' || Buffer.byteLength(name) > 255) {
    mistakes.add('queues', 'a name has 1 to 255 bytes')
  }
  return {
    name,
    vhost,
    durable,
    arguments: table,
    bindings: bindings.map(binding => {
      if (typeof binding !== 'string') return { kind: 'exchange', key: '', ...binding }
      if (!isValidFilter(binding, DEFAULT_LIMITS)) {
        mistakes.add('queues', `${JSON.stringify(binding)} is no topic filter`)
      }
      return { kind: 'filter', filter: binding }
    })
  }
}

function bytesOf(given: PublishProperties): Buffer {
  const { contentType, responseTopic, correlationData, isText = false, userProperties = [] } = given
  const properties = new MessageProperties()
  properties.contentType = contentType === undefined ? null : checked('contentType', contentType)
  properties.responseTopic =
    responseTopic === undefined ? null : checked('responseTopic', responseTopic)
  if (properties.responseTopic !== null && /[+#]/.test(properties.responseTopic)) {
    throw badArgument('responseTopic has wildcards')
  }
  properties.payloadFormat = isText ? 1 : 0
  if (correlationData !== undefined) {
    if (correlationData.length > STRING_BYTES_MAX) throw badArgument('correlationData is too long')
    properties.correlationId = Buffer.from(correlationData)
  }
  for (const [name, value] of userProperties) {
    const header = { type: 'S', value: checked('userProperties', value) } as const
    properties.headers.push([checked('userProperties', name), header])
  }
  return encodeProperties(properties)
}

function checked(name: string, value: string): string {
  if (
    typeof value === 'string' &&
    !value.includes('\0') &&
    Buffer.byteLength(value) <= STRING_BYTES_MAX
  ) {
    return value
  }
  throw badArgument(`${name} is no text of at most ${STRING_BYTES_MAX} bytes without U+0000`)
}

function receivedOf(delivery: LocalDelivery): ReceivedMessage {
  const { topic, payload, qos, retain, properties, expirySeconds } = delivery
  const { contentType, responseTopic, correlationId, payloadFormat, headers } = properties
  const userProperties = headers.flatMap(([name, field]) =>
    field.type === 'S' ? [[name, field.value] as const] : []
  )
  return {
    topic,
    payload,
    qos,
    retain,
    properties: {
      ...(contentType === null ? {} : { contentType }),
      ...(responseTopic === null ? {} : { responseTopic }),
      ...(correlationId === null ? {} : { correlationData: correlationId }),
      ...(payloadFormat === 1 ? { isText: true } : {}),
      ...(expirySeconds === null ? {} : { expirySeconds }),
      ...(userProperties.length === 0 ? {} : { userProperties })
    }
  }
}

function badArgument(sentence: string): BrokerError {
  return new BrokerError('argumentInvalid', sentence)
}
