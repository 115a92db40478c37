/** All bridges of a broker: made from the configuration, changed with it, asked and ordered about by name. */
import type { Broker } from '../broker/broker.ts'
import { BRIDGE_PREFIX } from '../broker/declared.ts'
import type { BridgeControl, BridgeOrder, BridgeState, BridgeStatus } from '../broker/bridges.ts'
import { purgeQueue } from '../broker/queues.ts'
import { BrokerError } from '../core/errors.ts'
import { NOTHING } from '../core/entries.ts'
import { COLD, readyBytesOf, readyOf, unackedOf } from '../core/queue.ts'
import type { Clock } from '../lib/clock.ts'
import { Bridge } from './bridge.ts'
import { unbindAll } from './bridge-queue.ts'
import type { Link, LinkOwner } from './link.ts'
import { type BridgeSettings, deadNameOf, queueNameOf } from './settings.ts'

const TICK_MS = 100
/** What is on its way at a stop has so long to be confirmed; what is not is sent again after the start. */
const CLOSE_GRACE_MS = 2_000

export interface BridgesParts {
  readonly broker: Broker
  readonly clock: Clock
  readonly origin: string
  readonly random: () => number
  readonly makeLink: (settings: BridgeSettings, owner: LinkOwner) => Link
}

export class Bridges implements BridgeControl {
  readonly #parts: BridgesParts
  readonly #bridges: Map<string, Bridge>
  /** The state that the log told last, by name. */
  readonly #told: Map<string, BridgeState>
  #timer: NodeJS.Timeout | null

  constructor(parts: BridgesParts) {
    this.#parts = parts
    this.#bridges = new Map()
    this.#told = new Map()
    this.#timer = null
  }

  start(): void {
    this.#parts.broker.bridges = this
    this.#timer = setInterval(() => this.tick(), TICK_MS)
    this.#timer.unref()
  }

  tick(): void {
    for (const bridge of this.#bridges.values()) bridge.tick()
  }

  /** Those that are the same go on untouched. */
  configure(all: readonly BridgeSettings[]): void {
    const wanted = new Map(all.map(settings => [settings.name, settings]))
    for (const [name, bridge] of this.#bridges) {
      const settings = wanted.get(name)
      if (settings !== undefined && isSame(settings, bridge.settings)) continue
      bridge.close()
      this.#bridges.delete(name)
      this.#told.delete(name)
      if (settings === undefined)
        this.#parts.broker.events.emit('bridgeState', { name, isUp: null })
    }
    for (const settings of all) {
      if (this.#bridges.has(settings.name)) continue
      const onState = (bridge: Bridge) => this.#onState(bridge)
      const bridge = new Bridge({ ...this.#parts, settings, onState })
      this.#bridges.set(settings.name, bridge)
      // Its queue is there at once: nothing that is published from now on is missed.
      bridge.tick()
    }
    this.#leave(all)
  }

  /** A queue of a bridge that is no longer there takes nothing more, and keeps what it has. */
  #leave(all: readonly BridgeSettings[]): void {
    const { broker } = this.#parts
    const used = new Set(
      all.flatMap(each =>
        [queueNameOf(each), deadNameOf(each)].map(name => `${each.vhost}\0${name}`)
      )
    )
    for (const vhost of broker.vhosts.values()) {
      for (const queue of vhost.queues.values()) {
        if (!queue.name.startsWith(BRIDGE_PREFIX) || !queue.options.isConfigured) continue
        if (used.has(`${vhost.name}\0${queue.name}`)) continue
        const fields = { vhost: vhost.name, queue: queue.name, messages: queue.count }
        try {
          unbindAll(broker, vhost, queue)
          broker.log.warn(fields, 'this queue belongs to no bridge; it stays with what it holds')
        } catch (error) {
          if (!(error instanceof BrokerError)) throw error
          broker.log.warn({ ...fields, why: error.message }, 'this queue belongs to no bridge')
        }
      }
    }
  }

  /** What is on its way may still be confirmed; then all links are closed. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    for (const bridge of this.#bridges.values()) bridge.stop()
    const until = performance.now() + CLOSE_GRACE_MS
    const isBusy = () => [...this.#bridges.values()].some(bridge => bridge.openBytes > 0)
    while (isBusy() && performance.now() < until) {
      await new Promise<void>(resolve => setTimeout(resolve, 5))
    }
    for (const bridge of this.#bridges.values()) bridge.close()
    this.#bridges.clear()
    this.#parts.broker.bridges = null
  }

  #onState(bridge: Bridge): void {
    const { broker } = this.#parts
    const { state, lastError, settings } = bridge
    const { name } = settings
    broker.events.emit('bridgeState', { name, isUp: state === 'running' })
    // Of a far side that is gone one line tells, however often it is tried.
    if (state === 'connecting' || state === this.#told.get(name)) return
    this.#told.set(name, state)
    const fields = { bridge: name, state, ...(lastError === '' ? {} : { why: lastError }) }
    if (state === 'stalled' || state === 'failed-config') broker.log.error(fields, 'bridge')
    else if (state === 'backing-off') broker.log.warn(fields, 'bridge')
    else broker.log.info({ bridge: name, state }, 'bridge')
  }

  list(): readonly BridgeStatus[] {
    const now = this.#parts.clock.monotonicMs()
    return [...this.#bridges.values()].map(bridge => this.#statusOf(bridge, now))
  }

  #statusOf(bridge: Bridge, now: number): BridgeStatus {
    const { queue, settings, counts, rates } = bridge
    const messages = queue === null ? 0 : readyOf(queue) + unackedOf(queue)
    const gain = rates.outPerSecond - rates.inPerSecond
    return {
      name: settings.name,
      url: settings.url,
      state: bridge.state,
      seconds: Math.floor((now - bridge.stateSinceMs) / 1_000),
      lastError: bridge.lastError,
      vhost: settings.vhost,
      queue: queueNameOf(settings),
      deadLetterQueue: deadNameOf(settings),
      messages,
      bytes: queue === null ? 0 : readyBytesOf(queue) + bridge.openBytes,
      unconfirmed: bridge.openCount,
      oldestSeconds: messages === 0 ? null : this.#oldestSeconds(bridge, now),
      inPerSecond: rates.inPerSecond,
      outPerSecond: rates.outPerSecond,
      drainSeconds: messages === 0 || gain <= 0 ? null : Math.ceil(messages / gain),
      sentTotal: counts.sent,
      confirmedTotal: counts.confirmed,
      refusedTotal: counts.refused,
      retriedTotal: counts.retried,
      deadLetteredTotal: counts.deadLettered,
      droppedTotal: this.#dropsOf(settings.vhost, queueNameOf(settings))
    }
  }

  #oldestSeconds(bridge: Bridge, now: number): number | null {
    const { queue } = bridge
    if (queue === null || queue.levels !== null) return null
    const open = queue.firstOpen()
    const next = queue.next()
    const waiting = next === COLD ? queue.coldChunk!.start : next
    const oldest = open === NOTHING ? waiting : waiting === NOTHING ? open : Math.min(open, waiting)
    if (oldest === NOTHING) return null
    return Math.max(0, Math.floor((now - bridge.rates.sinceMs(oldest, now)) / 1_000))
  }

  #dropsOf(vhost: string, queue: string): Record<string, number> {
    const drops: Record<string, number> = {}
    for (const [key, count] of this.#parts.broker.counters.droppedByQueue) {
      const [where, name, reason] = key.split('\0') as [string, string, string]
      if (where === vhost && name === queue) drops[reason] = count
    }
    return drops
  }

  order(name: string, order: BridgeOrder): { readonly purged: number } | null {
    const bridge = this.#bridges.get(name)
    if (bridge === undefined) return null
    if (order === 'purge') return { purged: this.#purge(bridge) }
    bridge[order]()
    return { purged: 0 }
  }

  #purge({ settings }: Bridge): number {
    const { broker } = this.#parts
    const vhost = broker.state.vhost(settings.vhost)
    const name = queueNameOf(settings)
    if (vhost === null || !vhost.queues.has(name)) return 0
    return purgeQueue(broker, vhost, name, { principal: null, owner: null }).messageCount
  }
}

function isSame(a: BridgeSettings, b: BridgeSettings): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
