/**
 * The only place that knows everything: options → journal → broker → listeners, started in this order
 * and stopped in the reverse.
 */
import type { Socket } from 'node:net'
import type { Logger } from 'pino'
import { bridgeRoutes } from './admin/bridges.ts'
import { drainRoutes } from './admin/drain.ts'
import { healthRoutes } from './admin/health.ts'
import { AdminServer } from './admin/http.ts'
import { metricsRoutes } from './admin/metrics.ts'
import { openAdminSocket } from './admin/socket.ts'
import { storeRoutes } from './admin/store-routes.ts'
import { JournalUsers } from './admin/user-store.ts'
import { VhostAdmin } from './admin/vhosts.ts'
import { DEFAULT_AMQP_OPTIONS } from './amqp/options.ts'
import { AmqpServer } from './amqp/server.ts'
import { Hasher } from './auth/password.ts'
import { UserAuthenticator } from './auth/user-authenticator.ts'
import { makeUser, StoredUsers } from './auth/users.ts'
import type { Bridges } from './bridge/bridges.ts'
import type { Broker } from './broker/broker.ts'
import { declareConfigured, noteUndeclared } from './broker/declared.ts'
import { MemoryAlarm, memoryShare } from './broker/memory-alarm.ts'
import { Report } from './broker/report.ts'
import { startBroker, stopBroker } from './broker/start.ts'
import { removeOrphans } from './broker/streams.ts'
import { SysTopics } from './broker/sys-topics.ts'
import { putVhost } from './broker/vhosts.ts'
import type { Options } from './config/options.ts'
import { packetLimitsOf } from './config/packet-limits.ts'
import { judgeStart, StartRefusedError } from './config/start-rules.ts'
import { needsRestart, withLive } from './config/reload.ts'
import { takesIdentities, tlsOfListeners } from './config/tls.ts'
import { configuredVhosts, entryVhosts } from './config/vhost-names.ts'
import { readIdentity } from './journal/identity.ts'
import { realDisk } from './journal/disk.ts'
import type { Journal, Recovery } from './journal/journal.ts'
import { LoopLag } from './lib/loop-lag.ts'
import { VERSION } from './lib/version.ts'
import { MqttServer } from './mqtt/server.ts'
import { Admission, connectionsByDescriptors } from './net/admission.ts'
import { type Arrival, type ListenAddress, Lobby, type Stage } from './net/arrival.ts'
import { type Listener, openListeners } from './net/listener.ts'
import { proxyStage } from './net/proxy-protocol.ts'
import { Sockets } from './net/socket.ts'
import { openStore, type Store } from './store.ts'
import type { TlsSettings } from './net/tls-files.ts'
import type { TlsListeners } from './net/tls-listeners.ts'
import { WebSockets } from './net/web-sockets.ts'

/** What a start found in the data folder. */
export interface StoredCounts {
  readonly queues: number
  readonly sessions: number
  readonly messages: number
  readonly retained: number
}

export interface RunningServer {
  /** Real URLs, with the ports that were taken. */
  readonly urls: readonly string[]
  readonly recovery: Recovery
  readonly stored: StoredCounts
  readonly usersCount: number
  readonly broker: Broker
  /** Reads the files of TLS again; false when some cannot be used: then the old ones go on. */
  reloadTls(): boolean
  /**
   * Takes over what may change while it runs: users, rules, virtual hosts, queues, definitions, TLS files. Returns
   * the options that say something else and need a restart. Throws as a start does, with nothing changed.
   */
  reload(next: Options): Promise<readonly string[]>
  /** Resolves when all open work is on the disk. Idempotent. */
  close(): Promise<void>
}

/** How long connections get to take their last bytes at a stop, milliseconds. */
const CLOSE_GRACE_MS = 2_000

/** Throws what an operator can mend: JournalError, ListenError, StartRefusedError, BrokerError. */
export async function startServer(options: Options, log: Logger): Promise<RunningServer> {
  const hasher = new Hasher()
  const authenticator = new UserAuthenticator(hasher)
  const store = await openStore(options, log, (user, vhost) => {
    return authenticator.principalOf(user, vhost)
  })
  const server = new Server(options, log, store, hasher, authenticator)
  try {
    await server.open()
  } catch (error) {
    await server.close()
    throw error
  }
  return server
}

class Server implements RunningServer {
  readonly broker: Broker
  readonly recovery: Recovery
  stored: StoredCounts
  urls: readonly string[] = []
  #options: Options
  readonly #log: Logger
  readonly #journal: Journal
  readonly #hasher: Hasher
  readonly #authenticator: UserAuthenticator
  readonly #store: JournalUsers
  readonly #users: StoredUsers
  readonly #vhosts: VhostAdmin
  readonly #sockets: Sockets
  readonly #mqtt: MqttServer
  readonly #amqp: AmqpServer
  readonly #http: AdminServer
  /** What a metrics listener shows may be asked for under any name. */
  readonly #metrics: AdminServer
  /** Admin API on Unix sockets: no web page reaches them, whatever Host it names. */
  readonly #httpUnix: AdminServer
  readonly #webSockets: WebSockets
  readonly #admission: Admission
  readonly #lobby: Lobby
  /** Null when no listener has TLS. */
  #tls: TlsListeners | null = null
  #tlsSettings: ReadonlyMap<ListenAddress, TlsSettings> = new Map()
  readonly #lag = new LoopLag()
  /** In options that are read here. */
  readonly #report: Report
  readonly #sys: SysTopics
  readonly #memory: MemoryAlarm
  #bridges: Bridges | null = null
  #listeners: readonly Listener[] = []
  #adminSocket: { close(): Promise<void> } | null = null
  #isServing = false
  #closing: Promise<void> | null = null

  constructor(
    options: Options,
    log: Logger,
    store: Store,
    hasher: Hasher,
    authenticator: UserAuthenticator
  ) {
    this.#options = options
    this.#log = log
    this.broker = store.broker
    this.#journal = store.journal
    this.recovery = { ...store.recovery, tookMs: Math.round(store.recovery.tookMs) }
    this.stored = countStored(store.broker)
    this.#hasher = hasher
    this.#authenticator = authenticator
    this.#store = new JournalUsers(store.broker, options.users, options.topics.length > 0, () =>
      this.#usersChanged()
    )
    this.#users = new StoredUsers(this.#store, hasher)
    const { outputBytesMax, drainTimeoutMs, memoryAlarmBytes } = options.limits
    this.#sockets = new Sockets({ outputBytesMax, drainTimeoutMs })
    const { broker } = this
    this.#memory = new MemoryAlarm(broker, memoryAlarmBytes || memoryShare())
    this.#sockets.dirty.beforeFlush = () => broker.turns.end()
    this.#mqtt = new MqttServer({
      broker,
      authenticator,
      sockets: this.#sockets,
      log,
      options: {
        ...options.mqtt,
        packetLimits: packetLimitsOf(options.mqtt.packetLimits)
      }
    })
    this.#amqp = new AmqpServer(broker, authenticator, this.#sockets, {
      ...DEFAULT_AMQP_OPTIONS,
      product: options.amqp.product,
      version: options.amqp.version,
      consumerTimeoutMs: options.amqp.consumerTimeoutMs,
      platform: `Motemq ${VERSION}`
    })
    this.#vhosts = new VhostAdmin(broker, [this.#mqtt, this.#amqp], configuredVhosts(options))
    const { max, perSecond, burst } = options.connections
    const byDescriptors = connectionsByDescriptors()
    const connectionsMax = max === 0 ? byDescriptors : Math.min(byDescriptors, max)
    this.#admission = new Admission({ connectionsMax, perSecond, burst })
    this.#lobby = new Lobby({
      deadlineMs: options.limits.loginTimeoutMs,
      budget: this.#sockets,
      bytesMax: options.limits.preLoginTotalBytesMax,
      log: fields => log.info(fields, 'refused')
    })
    if (options.listeners.some(({ tls }) => takesIdentities({ ...options.tls, ...tls }))) {
      authenticator.takeIdentities()
    }
    this.#webSockets = new WebSockets({
      origins: options.websocket.origins,
      hasUsers: () => this.usersCount > 0,
      packetBytesMax: options.limits.mqttPacketBytesMax,
      preLoginBytesMax: options.limits.preLoginBytesMax,
      preLoginTotalBytesMax: options.limits.preLoginTotalBytesMax,
      budget: this.#sockets
    })
    this.#report = new Report(broker, () => this.#counts())
    this.#sys = new SysTopics(broker, this.#report, VERSION, options.sys)
    const routes = [...this.#healthRoutes(), ...metricsRoutes(this.#report, VERSION)]
    this.#http = new AdminServer({ routes, hosts: options.http.hosts, onBug: this.#onBug })
    this.#httpUnix = new AdminServer({ routes, hosts: null, onBug: this.#onBug })
    this.#metrics = new AdminServer({
      routes: metricsRoutes(this.#report, VERSION),
      hosts: null,
      onBug: this.#onBug
    })
  }

  get usersCount(): number {
    return this.#store.users().size
  }

  async open(): Promise<void> {
    const options = this.#options
    startBroker(this.broker)
    await removeOrphans(this.broker, this.recovery)
    for (const name of options.vhosts) putVhost(this.broker, name)
    this.#authenticator.setEntryVhosts(entryVhosts(options))
    await this.#makeFirstUser()
    await this.#importDefinitions()
    this.#usersChanged()
    const { refusals, warnings } = judgeStart(options.listeners, this.usersCount, options.tls)
    const all = [...refusals, ...this.#unknownVhosts(), ...(await this.#openTls())]
    if (all.length > 0) throw new StartRefusedError(all)
    for (const warning of warnings) this.#log.warn(warning)
    declareConfigured(this.broker, options.queues)
    const hasOldBridges = noteUndeclared(this.broker, options.queues)
    await this.#configureBridges(options, hasOldBridges)
    await this.#journal.flush()
    this.#lag.start()
    this.#sys.start()
    this.#memory.start()
    const { listeners, skipped } = await openListeners(options.listeners, {
      admission: this.#admission,
      lobby: this.#lobby,
      stagesOf: address => this.#stagesOf(address),
      onConnection: arrival => this.#accept(arrival)
    })
    this.#listeners = listeners
    for (const url of skipped) this.#log.info({ url }, 'left out: this machine has no such address')
    this.#adminSocket = await openAdminSocket(options.data, {
      routes: [
        ...this.#healthRoutes(),
        ...metricsRoutes(this.#report, VERSION),
        ...storeRoutes({
          broker: this.broker,
          users: this.#users,
          vhosts: this.#vhosts,
          rabbitVersion: options.amqp.version
        }),
        ...drainRoutes(this.#mqtt),
        ...bridgeRoutes(this.broker)
      ],
      onBug: this.#onBug
    })
    this.urls = listeners.map(listener => listener.url)
    this.#isServing = true
  }

  reloadTls(): boolean {
    return this.#tls?.reload() ?? true
  }

  async reload(next: Options): Promise<readonly string[]> {
    const before = this.#options
    const names = new Set([...this.broker.state.users.keys(), ...next.users.map(user => user.name)])
    const { refusals } = judgeStart(before.listeners, names.size, before.tls)
    if (refusals.length > 0) throw new StartRefusedError(refusals)
    const file = next.definitions
    const { importFile, readDefinitions } = await import('./admin/definitions-file.ts')
    const definitions = file === '' ? null : await readDefinitions(file)
    for (const name of next.vhosts) putVhost(this.broker, name)
    declareConfigured(this.broker, next.queues)
    this.#options = withLive(before, next)
    await this.#configureBridges(next, false)
    this.#vhosts.configure(configuredVhosts(this.#options))
    this.#store.configure(next.users, next.topics.length > 0)
    if (definitions !== null) {
      await importFile(file, definitions, { broker: this.broker, users: this.#users }, this.#log)
    }
    this.#usersChanged()
    this.reloadTls()
    await this.#journal.flush()
    return needsRestart(before, next)
  }

  async #configureBridges(options: Options, hasOld: boolean): Promise<void> {
    if (this.#bridges === null) {
      if (options.bridges.length === 0 && !hasOld) return
      // Imported here: a broker without bridges does without them.
      const { openBridges } = await import('./bridge/open-bridges.ts')
      const store = await readIdentity(realDisk, options.data, 'store')
      this.#bridges = openBridges(this.broker, (store as Buffer).toString('hex'))
    }
    this.#bridges.configure(options.bridges)
  }

  /** Reads certificates and keys; a sentence for each that cannot be used. */
  async #openTls(): Promise<readonly string[]> {
    const { listeners, tls, data } = this.#options
    const { settings, mistakes } = tlsOfListeners(listeners, tls, data)
    if (settings.size === 0) return mistakes
    this.#tlsSettings = settings
    // Imported here: a broker without TLS does without its memory.
    const { TlsListeners } = await import('./net/tls-listeners.ts')
    const log = this.#log
    this.#tls = new TlsListeners(this.#options.connections.handshakes, {
      onReloaded: files => log.info({ files }, 'new TLS files in use'),
      onRefused: mistake => log.warn({ mistake }, 'TLS files not taken, the old ones go on'),
      onWarning: warning => log.warn(warning)
    })
    return [...mistakes, ...(await this.#tls.open([...settings.values()]))]
  }

  close(): Promise<void> {
    this.#closing ??= this.#stop()
    return this.#closing
  }

  async #stop(): Promise<void> {
    this.#isServing = false
    await this.#bridges?.close()
    for (const listener of this.#listeners) listener.close()
    this.#lobby.close()
    this.#tls?.close()
    this.#webSockets.close()
    this.#http.close()
    this.#httpUnix.close()
    this.#metrics.close()
    this.#sys.close()
    this.#memory.close()
    stopBroker(this.broker)
    // What was taken before the stop is made durable, and its acknowledgements leave, before the end.
    if (!this.#journal.failed) await this.#journal.flush()
    await this.broker.streams?.close()
    this.#amqp.close()
    await this.#mqtt.close()
    await this.#drained()
    await this.#adminSocket?.close()
    await this.#users.close()
    this.#lag.close()
    await this.#hasher.close()
    this.broker.isAtRest = true
    await this.#journal.close()
  }

  /** Waits for the sockets, not for long. */
  async #drained(): Promise<void> {
    const until = performance.now() + CLOSE_GRACE_MS
    while (this.#amqp.connections.size > 0 && performance.now() < until) {
      await new Promise<void>(resolve => setTimeout(resolve, 10))
    }
  }

  readonly #onBug = (err: unknown, method: string, path: string): void => {
    this.#log.error({ err, method, path }, 'bug in the admin API')
  }

  #healthRoutes() {
    const { broker } = this
    return healthRoutes({
      isServing: () => this.#isServing,
      stats: () => ({ journalFailed: broker.journal.failed, diskLevel: broker.journal.level })
    })
  }

  /** What stands between an accepted socket and its front-end, from the wire inwards. */
  #stagesOf(address: ListenAddress): readonly Stage[] {
    const stages: Stage[] = []
    if (address.proxyFrom.length > 0) stages.push(proxyStage(address.proxyFrom))
    const settings = this.#tlsSettings.get(address)
    if (settings !== undefined) stages.push(this.#tls!.stage({ scheme: address.scheme, settings }))
    if (address.isWebSocket) stages.push(this.#webSockets.stage(address))
    return stages
  }

  #accept(arrival: Arrival): void {
    const { stream, address, release } = arrival
    const { protocol, scheme, vhost } = address
    if (protocol === 'http' || protocol === 'metrics') {
      this.#httpServerOf(address).take(stream as Socket, release)
      return
    }
    const peer = {
      vhost: vhost === '' ? this.#options.vhost : vhost,
      isTrusted: arrival.isTrusted,
      protocol: scheme,
      localPort: address.port,
      remote: arrival.remote,
      waitedMs: arrival.waitedMs,
      identity: arrival.identity,
      onClosed: release
    }
    if (protocol === 'amqp') this.#amqp.accept(stream, peer)
    else this.#mqtt.accept(stream, { ...peer, isVhostFixed: vhost !== '' })
  }

  #httpServerOf({ protocol, unixPath }: ListenAddress): AdminServer {
    if (protocol === 'metrics') return this.#metrics
    return unixPath === '' ? this.#http : this.#httpUnix
  }

  async #makeFirstUser(): Promise<void> {
    const { firstUser } = this.#options
    if (firstUser === null || this.#store.users().size > 0) return
    const password = Buffer.from(firstUser.password)
    const user = await makeUser(this.#hasher, firstUser.name, password, ['administrator'])
    await this.#store.putUser(user)
  }

  /** What the file has is taken at each start; what is there stays. */
  async #importDefinitions(): Promise<void> {
    const file = this.#options.definitions
    if (file === '') return
    const { importFile, readDefinitions } = await import('./admin/definitions-file.ts')
    const target = { broker: this.broker, users: this.#users }
    await importFile(file, await readDefinitions(file), target, this.#log)
  }

  #usersChanged(): void {
    this.#authenticator.setUsers(this.#store.users(), this.#options.topics)
    this.#mqtt.permissionsChanged()
    this.#amqp.permissionsChanged()
  }

  #unknownVhosts(): string[] {
    const refusals: string[] = []
    for (const { url, vhost } of this.#options.listeners) {
      const name = vhost === '' ? this.#options.vhost : vhost
      if (this.broker.state.vhost(name) !== null) continue
      refusals.push(
        `${url}: there is no virtual host '${name}'; list it under vhosts, or make it with \`motemq vhost add\``
      )
    }
    return refusals
  }

  #counts() {
    return {
      bytesInTotal: this.#sockets.bytesIn,
      bytesOutTotal: this.#sockets.bytesOut,
      socketsTotal: this.#listeners.reduce((sum, { accepted }) => sum + accepted, 0),
      loginFailuresTotal: this.#authenticator.counters.failed,
      connectionsOpen: this.#admission.open,
      connectionsRefusedTotal: this.#admission.refused,
      connectionsDelayedTotal: this.#admission.delayed,
      loopLagP99Ms: this.#lag.p99Ms()
    }
  }
}

function countStored(broker: Broker): StoredCounts {
  let queues = 0
  let messages = 0
  for (const queue of broker.state.queues.values()) {
    if (!queue.isSession) queues++
    messages += queue.count
  }
  let retained = 0
  for (const vhost of broker.vhosts.values()) retained += vhost.retained.count
  return { queues, sessions: broker.state.sessions.size, messages, retained }
}
