/**
 * Exchanges and their bindings: from a message's key and headers to queues.
 *
 * Forms of keys: a topic exchange routes by keys in *topic form* (`a/b`, see topic.ts), all others by
 * AMQP keys as written (`a.b`). `bind` and `unbind` always take the AMQP key, as clients declare it
 * and as listings show it; a topic exchange swaps it itself. MQTT subscriptions stand in the same trie,
 * in topic form, through `subscribe`.
 *
 * Cached routes: `version` changes whenever any route through this exchange may have changed; when only
 * the route of one key changed, `onExactChange` (if set) is told that key instead. A change in an
 * exchange behind this one (a binding to it, its alternate) raises this one's version too.
 */
import { ArraySet } from '../lib/array-set.ts'
import { assert } from '../lib/assert.ts'
import { HeadersMatch, headerMap, tableIdentity } from './binding-arguments.ts'
import { DEDUPLICATION_TYPE, type KeyCache } from './deduplication.ts'
import { delayOf } from './delay.ts'
import type { DelayStore } from './delay-store.ts'
import { EMPTY_TABLE, type FieldTable, fieldOf } from './field-table.ts'
import {
  CONSISTENT_HASH,
  checkWeight,
  Dice,
  hashedText,
  hashesKey,
  hashesProperty,
  pickByHash,
  RANDOM
} from './pick-binding.ts'
import { EXCHANGE_BINDING, QUEUE_BINDING } from './target-kinds.ts'
import { bindingKeyToFilter, hasWildcard } from './topic.ts'
import { TopicTrie } from './topic-trie.ts'

export type ExchangeKind =
  | 'direct'
  | 'fanout'
  | 'topic'
  | 'headers'
  | typeof CONSISTENT_HASH
  | typeof RANDOM

/** In the order in which records number them. */
export const EXCHANGE_KINDS: readonly ExchangeKind[] = [
  'direct',
  'fanout',
  'topic',
  'headers',
  CONSISTENT_HASH,
  RANDOM
]

/** An exchange that holds messages back; its argument `x-delayed-type` says how it routes them. */
export const DELAYED_TYPE = 'x-delayed-message'

/** A queue, as far as routing knows it. */
export interface QueueTarget {
  readonly id: number
}

export type BindingTarget = QueueTarget | Exchange

/** What stands in a topic exchange's trie; `kind` tells which it is: see target-kinds.ts. */
export interface TopicTarget {
  readonly kind: number
}

export class Binding implements TopicTarget {
  readonly kind: 0 | 1
  readonly source: Exchange
  /** One of these two is null, as `kind` says. */
  readonly queue: QueueTarget | null
  readonly exchange: Exchange | null
  /** As declared, in AMQP form. */
  readonly key: string
  /** The key in topic form if the source is a topic exchange, else ''. */
  readonly filter: string
  readonly arguments: FieldTable
  readonly headersMatch: HeadersMatch | null

  constructor(source: Exchange, target: BindingTarget, key: string, table: FieldTable) {
    const isExchange = target instanceof Exchange
    this.kind = isExchange ? EXCHANGE_BINDING : QUEUE_BINDING
    this.source = source
    this.queue = isExchange ? null : target
    this.exchange = isExchange ? target : null
    this.key = key
    this.filter = source.kind === 'topic' ? bindingKeyToFilter(key) : ''
    this.arguments = table
    this.headersMatch = source.kind === 'headers' ? new HeadersMatch(table) : null
  }

  get target(): BindingTarget {
    return (this.queue ?? this.exchange) as BindingTarget
  }
}

export interface ExchangeOptions {
  readonly name: string
  readonly kind: ExchangeKind
  readonly isDurable?: boolean
  readonly isAutoDelete?: boolean
  readonly isInternal?: boolean
  readonly arguments?: FieldTable
  /** It is of type `x-delayed-message`, and routes as `kind` says what is due. */
  readonly delay?: DelayStore | null
  /** It is of type `x-message-deduplication`. */
  readonly cache?: KeyCache | null
}

export class Exchange {
  readonly name: string
  readonly kind: ExchangeKind
  readonly isDurable: boolean
  readonly isAutoDelete: boolean
  /** Clients may not publish to it. */
  readonly isInternal: boolean
  readonly arguments: FieldTable
  /** What it holds back until it is due; null but for type `x-delayed-message`. */
  readonly delay: DelayStore | null
  /** What it has let pass; null but for type `x-message-deduplication`. */
  readonly cache: KeyCache | null
  /** Topic exchanges: bindings and subscriptions by filter. Written only through bind and subscribe. */
  readonly trie: TopicTrie<TopicTarget>
  /** Changed: routes through this exchange that somebody cached may be wrong. */
  version: number
  /**
   * Told instead of `version` when only the messages with this key (in the exchange's own form) may go
   * elsewhere now. Set by whoever caches routes.
   */
  onExactChange: ((key: string) => void) | null
  /** Somebody's routes may lead through it as it is now: who they are has to be told of the next change. */
  isPassed: boolean
  private count: number
  private exchangeBindings: number
  /** By destination; a destination with one binding, most of them, needs no map of its own. */
  private readonly byTarget: Map<BindingTarget, Binding | Map<string, Binding>>
  /** Direct exchanges. */
  private readonly byKey: Map<string, ArraySet<Binding>>
  /** Fanout and headers exchanges. */
  private every: ArraySet<Binding> | null
  private alternateExchange: Exchange | null
  /** What `readsHeaders` and `readsProperties` answered, and for which version. */
  private reads: boolean
  private readsMore: boolean
  private readsVersion: number
  /** Of an exchange that gives each message to any of its bindings. */
  private readonly dice: Dice | null
  /** Exchanges whose routes may lead here: how many bindings, or 1 more as their alternate. */
  private readonly upstream: Map<Exchange, number>

  constructor(options: ExchangeOptions) {
    this.name = options.name
    this.kind = options.kind
    this.isDurable = options.isDurable ?? false
    this.isAutoDelete = options.isAutoDelete ?? false
    this.isInternal = options.isInternal ?? false
    this.arguments = options.arguments ?? EMPTY_TABLE
    this.delay = options.delay ?? null
    this.cache = options.cache ?? null
    this.trie = new TopicTrie()
    this.version = 0
    this.onExactChange = null
    this.isPassed = false
    this.count = 0
    this.exchangeBindings = 0
    this.byTarget = new Map()
    this.byKey = new Map()
    this.every = null
    this.alternateExchange = null
    this.reads = false
    this.readsMore = false
    this.readsVersion = -1
    this.dice = this.kind === RANDOM ? new Dice(this.name) : null
    this.upstream = new Map()
  }

  /** As clients declare it; `kind` is how it routes. */
  get type(): string {
    if (this.cache !== null) return DEDUPLICATION_TYPE
    return this.delay === null ? this.kind : DELAYED_TYPE
  }

  /** Bindings whose source this is; subscriptions are not counted. */
  get bindingCount(): number {
    return this.count
  }

  /** A route through this exchange may lead through others. */
  get hasExchangeTargets(): boolean {
    return this.exchangeBindings > 0 || this.alternateExchange !== null
  }

  /**
   * Where a message goes depends on more than its key: on its headers, its properties or chance, here or in an exchange
   * behind this one.
   */
  get readsHeaders(): boolean {
    if (this.readsVersion !== this.version) this.look()
    return this.reads
  }

  /** This exchange itself looks at them. */
  get looksAtHeaders(): boolean {
    if (this.kind === 'headers' || this.kind === RANDOM) return true
    if (this.delay !== null || this.cache !== null) return true
    return this.kind === CONSISTENT_HASH && !hashesKey(this.arguments)
  }

  /** This exchange, or one behind it, looks at properties that are no headers. */
  get readsProperties(): boolean {
    if (this.readsVersion !== this.version) this.look()
    return this.readsMore
  }

  /** Answers both for as long as nothing changes. */
  private look(): void {
    this.reads = someBehind(this, looksAt)
    this.readsMore = this.reads && someBehind(this, looksAtProperties)
    this.readsVersion = this.version
  }

  /** The exchanges that a message may go on to from here. */
  forEachNext(visit: (exchange: Exchange) => void): void {
    if (this.alternateExchange !== null) visit(this.alternateExchange)
    if (this.exchangeBindings === 0) return
    for (const target of this.byTarget.keys()) if (target instanceof Exchange) visit(target)
  }

  /** Where a message goes for which this exchange matches nothing at all. */
  get alternate(): Exchange | null {
    return this.alternateExchange
  }

  /** Whoever knows names resolves `alternate-exchange` and sets it anew when that one comes or goes. */
  setAlternate(exchange: Exchange | null): void {
    if (exchange === this.alternateExchange) return
    this.alternateExchange?.removeUpstream(this)
    this.alternateExchange = exchange
    exchange?.addUpstream(this)
    this.changed(null)
  }

  /**
   * False when the same binding (target, key, arguments with their types) existed. `key` in AMQP form.
   * Bad arguments for a headers exchange throw a `BrokerError` argumentInvalid.
   */
  bind(target: BindingTarget, key: string, table: FieldTable = EMPTY_TABLE): boolean {
    const id = bindingId(key, table)
    const existing = this.byTarget.get(target)
    if (findBinding(existing, id) !== null) return false
    if (this.kind === CONSISTENT_HASH) checkWeight(key)
    const binding = new Binding(this, target, key, table)
    if (existing === undefined) this.byTarget.set(target, binding)
    else if (existing instanceof Map) existing.set(id, binding)
    else
      this.byTarget.set(
        target,
        new Map([
          [idOf(existing), existing],
          [id, binding]
        ])
      )
    this.count += 1
    this.index(binding)
    if (binding.exchange !== null) {
      this.exchangeBindings += 1
      binding.exchange.addUpstream(this)
    }
    this.changed(binding.exchange === null ? exactKey(binding) : null)
    return true
  }

  /** False when there was no such binding. `key` in AMQP form. */
  unbind(target: BindingTarget, key: string, table: FieldTable = EMPTY_TABLE): boolean {
    const id = bindingId(key, table)
    const existing = this.byTarget.get(target)
    const binding = findBinding(existing, id)
    if (binding === null) return false
    if (existing instanceof Map && existing.size > 1) existing.delete(id)
    else this.byTarget.delete(target)
    this.drop(binding)
    return true
  }

  /** Removes all bindings to `target` and returns them. */
  unbindAll(target: BindingTarget): Binding[] {
    const bindings = this.bindingsOf(target)
    this.byTarget.delete(target)
    for (const binding of bindings) this.drop(binding)
    return bindings
  }

  /** The bindings to `target`. */
  bindingsOf(target: BindingTarget): Binding[] {
    const existing = this.byTarget.get(target)
    if (existing === undefined) return []
    return existing instanceof Map ? [...existing.values()] : [existing]
  }

  isBoundTo(target: BindingTarget): boolean {
    return this.byTarget.has(target)
  }

  /** Calls `visit` for every binding. The exchange must not change meanwhile. */
  forEachBinding(visit: (binding: Binding) => void): void {
    for (const existing of this.byTarget.values()) {
      if (existing instanceof Map) for (const binding of existing.values()) visit(binding)
      else visit(existing)
    }
  }

  hasBinding(target: BindingTarget, key: string, table: FieldTable = EMPTY_TABLE): boolean {
    return findBinding(this.byTarget.get(target), bindingId(key, table)) !== null
  }

  /** The exchanges with a binding to this one, or with this one as their alternate. */
  get upstreamExchanges(): Exchange[] {
    return [...this.upstream.keys()]
  }

  /**
   * The exchange is being deleted: takes its own bindings away, those of other exchanges to it, and
   * itself as their alternate. Returns the bindings removed, its own first.
   */
  detach(): Binding[] {
    const removed: Binding[] = []
    this.forEachBinding(binding => {
      removed.push(binding)
    })
    this.byTarget.clear()
    for (const binding of removed) this.drop(binding)
    for (const source of this.upstreamExchanges) {
      for (const binding of source.unbindAll(this)) removed.push(binding)
      if (source.alternate === this) source.setAlternate(null)
    }
    this.setAlternate(null)
    return removed
  }

  /** Topic exchanges: puts an MQTT subscription under its filter (topic form). False when it was there. */
  subscribe(filter: string, subscription: TopicTarget): boolean {
    assert(this.kind === 'topic', 'only topic exchanges have subscriptions')
    if (!this.trie.insert(filter, subscription)) return false
    this.changed(hasWildcard(filter) ? null : filter)
    return true
  }

  unsubscribe(filter: string, subscription: TopicTarget): boolean {
    if (!this.trie.remove(filter, subscription)) return false
    this.changed(hasWildcard(filter) ? null : filter)
    return true
  }

  /**
   * Pushes what this exchange alone matches: bindings, and subscriptions in a topic exchange. `key` is
   * in this exchange's own form. A queue comes once for each binding that matches.
   */
  collect(key: string, headers: FieldTable | null, out: TopicTarget[]): void {
    if (this.delay !== null && delayOf(headers) > 0) {
      out.push(this.delay)
      return
    }
    if (this.kind === 'topic') {
      this.trie.match(key, out)
      return
    }
    const bindings = this.kind === 'direct' ? (this.byKey.get(key) ?? null) : this.every
    if (bindings === null) return
    const items = bindings.items
    if (this.kind === CONSISTENT_HASH || this.dice !== null) {
      const picked = this.pick(items, key, headers)
      if (picked !== null) out.push(picked)
      return
    }
    if (this.kind === 'headers') {
      const map = headerMap(headers)
      for (const binding of items) if (binding.headersMatch?.matches(map)) out.push(binding)
      return
    }
    for (let i = 0; i < items.length; i++) out.push(items[i] as Binding)
  }

  private pick(items: readonly Binding[], key: string, headers: FieldTable | null): Binding | null {
    if (this.dice !== null) return items[this.dice.roll(items.length)] ?? null
    return pickByHash(items, hashedText(this.arguments, key, headers))
  }

  private index(binding: Binding): void {
    if (this.kind === 'topic') {
      this.trie.insert(binding.filter, binding)
    } else if (this.kind === 'direct') {
      const bindings = this.byKey.get(binding.key)
      if (bindings === undefined) this.byKey.set(binding.key, new ArraySet(binding))
      else bindings.add(binding)
    } else if (this.every === null) {
      this.every = new ArraySet(binding)
    } else {
      this.every.add(binding)
    }
  }

  /** `binding` is out of `byTarget`: the rest of it. */
  private drop(binding: Binding): void {
    if (this.kind === 'topic') {
      this.trie.remove(binding.filter, binding)
    } else if (this.kind === 'direct') {
      const bindings = this.byKey.get(binding.key)
      bindings?.delete(binding)
      if (bindings?.size === 0) this.byKey.delete(binding.key)
    } else {
      this.every?.delete(binding)
    }
    this.count -= 1
    if (binding.exchange !== null) {
      this.exchangeBindings -= 1
      binding.exchange.removeUpstream(this)
    }
    this.changed(binding.exchange === null ? exactKey(binding) : null)
  }

  private addUpstream(exchange: Exchange): void {
    this.upstream.set(exchange, (this.upstream.get(exchange) ?? 0) + 1)
  }

  private removeUpstream(exchange: Exchange): void {
    const links = (this.upstream.get(exchange) ?? 0) - 1
    if (links > 0) this.upstream.set(exchange, links)
    else this.upstream.delete(exchange)
  }

  private changed(key: string | null): void {
    if (key !== null && this.onExactChange !== null) this.onExactChange(key)
    else this.version += 1
    // Of a long chain that is taken down exchange by exchange, each tells those before it once.
    if (this.upstream.size === 0 || !this.isPassed) return
    this.isPassed = false
    // A set is walked to its end while it grows: each exchange once, whatever the circles.
    const affected = new Set<Exchange>(this.upstream.keys())
    for (const exchange of affected) {
      exchange.version += 1
      if (!exchange.isPassed) continue
      exchange.isPassed = false
      for (const further of exchange.upstream.keys()) affected.add(further)
    }
  }
}

function looksAt(exchange: Exchange): boolean {
  return exchange.looksAtHeaders
}

function looksAtProperties(exchange: Exchange): boolean {
  return exchange.kind === CONSISTENT_HASH && hashesProperty(exchange.arguments)
}

/** Some exchange behind `first`, in circles too, or itself. */
function someBehind(first: Exchange, isIt: (exchange: Exchange) => boolean): boolean {
  const seen = new Set<Exchange>([first])
  const add = (exchange: Exchange): void => {
    seen.add(exchange)
  }
  for (const exchange of seen) {
    exchange.isPassed = true
    if (isIt(exchange)) return true
    exchange.forEachNext(add)
  }
  return false
}

/** The exchange's `alternate-exchange` argument, null without one. */
export function alternateName(exchange: Exchange): string | null {
  const value = fieldOf(exchange.arguments, 'alternate-exchange')
  return value?.type === 'S' ? value.value : null
}

function idOf(binding: Binding): string {
  return bindingId(binding.key, binding.arguments)
}

/** Without arguments the key alone: no new string for nearly every binding. */
function bindingId(key: string, table: FieldTable): string {
  return table.length === 0 ? key : `${key}\0${tableIdentity(table)}`
}

function findBinding(
  existing: Binding | Map<string, Binding> | undefined,
  id: string
): Binding | null {
  if (existing === undefined) return null
  if (existing instanceof Map) return existing.get(id) ?? null
  return idOf(existing) === id ? existing : null
}

/** The one key whose messages a binding takes, null when it is not one. */
function exactKey(binding: Binding): string | null {
  const kind = binding.source.kind
  if (kind === 'direct') return binding.key
  return kind === 'topic' && !hasWildcard(binding.filter) ? binding.filter : null
}
