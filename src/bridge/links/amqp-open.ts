/** Opens a connection to an AMQP server: password and certificates are read, what is to be there is declared. */
import { readFile } from 'node:fs/promises'
import type { LookupFunction, TcpSocketConnectOpts } from 'node:net'
import type { ConnectionOptions as TlsOptions } from 'node:tls'
import type { Channel, Connection, ConnectionOptions } from 'rabbitmq-client'
import { holesOf, parseTemplate } from '../../lib/template.ts'
import { VERSION } from '../../lib/version.ts'
import { LinkError } from '../link.ts'
import { DEFAULT_EXCHANGE } from '../mapping.ts'
import type { BridgeSettings } from '../settings.ts'

const PACKAGE = 'rabbitmq-client'
const PACKAGE_VERSION = '5.0.8'
const FRAME_BYTES_MAX = 131_072
/** Below it no server may go (AMQP 0-9-1 §4.2.3). */
const FRAME_BYTES_MIN = 4_096
/** Longer than any bridge waits: its own watchdog ends the waiting. */
const NEVER_MS = 2 ** 31 - 1
const PASSWORD_BYTES_MAX = 65_536

/** What is used of the library's channel beyond its own words: see docs/decisions/0020. */
export interface ChannelState {
  readonly stream: {
    write(frames: Iterator<Buffer>, done: (error?: Error | null) => void): boolean
  }
  readonly unconfirmed: Map<number, { resolve(): void; reject(error: unknown): void }>
  deliveryCount: number
}

export interface AmqpOpened {
  readonly connection: Connection
  readonly channel: Channel
  readonly state: ChannelState
  readonly frameBytesMax: number
}

export class AmqpOpening {
  /** What is being done now. */
  step: string
  /** What the connection or a channel said last. */
  lastError: unknown
  /** Why the far side takes no publishes now; '' is not so. */
  blocked: string
  readonly user: string
  readonly #settings: BridgeSettings
  readonly #lookup: LookupFunction | null
  #connection: Connection | null
  #isDestroyed: boolean

  constructor(settings: BridgeSettings, lookup: LookupFunction | null) {
    this.step = ''
    this.lastError = null
    this.blocked = ''
    this.#settings = settings
    this.#lookup = lookup
    this.user = decodeURIComponent(new URL(settings.url).username) || 'guest'
    this.#connection = null
    this.#isDestroyed = false
  }

  /** What the library waits for may never come: race it. */
  async open(): Promise<AmqpOpened> {
    const Library = await importLibrary()
    this.step = 'reading password and certificates'
    const options = await this.#options()
    // Given up meanwhile: nobody would close it.
    if (this.#isDestroyed) throw new LinkError('given up', false)
    this.step = this.#settings.url.startsWith('amqps') ? 'connecting with TLS' : 'connecting'
    const connection = new Library(options)
    this.#connection = connection
    connection.on('connection.blocked', reason => {
      this.blocked = reason === '' ? 'no reason given' : reason
    })
    connection.on('connection.unblocked', () => {
      this.blocked = ''
    })
    const failed = new Promise<never>((_, reject) => {
      connection.on('error', error => {
        this.lastError ??= error
        // It would connect again by itself.
        connection.unsafeDestroy()
        reject(error)
      })
    })
    return Promise.race([this.#prepare(connection), failed])
  }

  async #prepare(connection: Connection): Promise<AmqpOpened> {
    connection.on('connection', () => {
      this.step = 'opening a channel'
    })
    const first = await connection.acquire({ emitErrorsFromChannel: true })
    first.on('error', error => {
      this.lastError ??= error
    })
    this.step = 'declaring'
    await this.#declare(first)
    await this.#check(first)
    await first.close()
    this.step = 'opening a channel'
    const channel = await connection.acquire({ emitErrorsFromChannel: true })
    await channel.confirmSelect()
    this.lastError = null
    const { _state } = channel as unknown as { _state: ChannelState }
    const { _state: negotiated } = connection as unknown as { _state: { frameMax: number } }
    const frameBytesMax = Math.max(FRAME_BYTES_MIN, negotiated.frameMax || FRAME_BYTES_MAX)
    return { connection, channel, state: _state, frameBytesMax }
  }

  async #declare(channel: Channel): Promise<void> {
    const { exchanges, queues, bindings } = this.#settings.declare
    for (const { name, type, arguments: table } of exchanges) {
      await channel.exchangeDeclare({ exchange: name, type, durable: true, arguments: table })
    }
    for (const { name, arguments: table } of queues) {
      await channel.queueDeclare({ queue: name, durable: true, arguments: table })
    }
    for (const { queue, exchange, key } of bindings) {
      await channel.queueBind({ queue, exchange, routingKey: key })
    }
  }

  /** Exchanges that a rule names in full are there: else every message would end the channel. */
  async #check(channel: Channel): Promise<void> {
    for (const exchange of fixedExchanges(this.#settings)) {
      await channel.exchangeDeclare({ exchange, passive: true })
    }
  }

  async #options(): Promise<ConnectionOptions> {
    const { url, heartbeatSeconds, name } = this.#settings
    const { protocol, hostname, port, pathname } = new URL(url)
    const isTls = protocol === 'amqps:'
    const vhost = decodeURIComponent(pathname.slice(1))
    return {
      hostname: hostname.replace(/^\[|\]$/g, ''),
      port: port === '' ? (isTls ? 5671 : 5672) : Number(port),
      username: this.user,
      password: await passwordOf(this.#settings),
      vhost: vhost === '' ? '/' : vhost,
      ...(isTls ? { tls: await this.#tls(hostname) } : {}),
      heartbeat: heartbeatSeconds,
      frameMax: FRAME_BYTES_MAX,
      connectionTimeout: 0,
      acquireTimeout: NEVER_MS,
      noDelay: true,
      ...(this.#lookup === null
        ? {}
        : { socket: { lookup: this.#lookup } as TcpSocketConnectOpts }),
      connectionName: `motemq ${VERSION} bridge ${name}`
    }
  }

  /** The files are read at each opening: what was renewed is used. */
  async #tls(hostname: string): Promise<TlsOptions> {
    const { ca, cert, key, servername, verify } = this.#settings.tls
    const isName = !/^[\d.]+$|:/.test(hostname)
    const wanted = servername === '' ? hostname : servername
    return {
      rejectUnauthorized: verify,
      ...(servername !== '' || isName ? { servername: wanted } : {}),
      ...(ca === '' ? {} : { ca: await fileOf(ca) }),
      ...(cert === '' ? {} : { cert: await fileOf(cert) }),
      ...(key === '' ? {} : { key: await fileOf(key) })
    }
  }

  /** Idempotent. */
  destroy(): void {
    this.#isDestroyed = true
    this.#connection?.unsafeDestroy()
  }
}

/** Loaded by the first bridge that needs it. */
async function importLibrary(): Promise<typeof Connection> {
  try {
    const { Connection: Library } = await import('rabbitmq-client')
    return Library
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error
    const how = `npm install ${PACKAGE}@${PACKAGE_VERSION}`
    throw new LinkError(`the package ${PACKAGE} is not installed: ${how}`, true, error)
  }
}

/** Exchanges that do not depend on the message. */
export function fixedExchanges({ map }: BridgeSettings): string[] {
  const names = new Set<string>([DEFAULT_EXCHANGE])
  for (const { exchange } of map) {
    const template = parseTemplate(exchange)
    if (typeof template !== 'string' && holesOf(template).length === 0) names.add(template[0]!)
  }
  // With a rule for everything nothing goes to the default one.
  if (map.some(({ filter }) => filter === '#')) names.delete(DEFAULT_EXCHANGE)
  for (const { exchange } of map) if (exchange === DEFAULT_EXCHANGE) names.add(exchange)
  names.delete('')
  return [...names]
}

export async function passwordOf(settings: BridgeSettings): Promise<string> {
  const { password, passwordFile, passwordEnv } = settings
  if (passwordFile !== '') {
    const text = (await fileOf(passwordFile)).toString('utf8', 0, PASSWORD_BYTES_MAX)
    return text.replace(/\r?\n$/, '')
  }
  if (passwordEnv !== '') {
    const text = process.env[passwordEnv]
    if (text !== undefined) return text
    throw new LinkError(`the variable ${passwordEnv} for its password is not set`, true)
  }
  return password === '' && new URL(settings.url).username === '' ? 'guest' : password
}

async function fileOf(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw new LinkError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`, true)
  }
}
