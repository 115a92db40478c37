/** From the exchange that a message is published to, through all exchanges behind it, to its queues. */
import type { KeyCache } from './deduplication.ts'
import type { DelayStore } from './delay-store.ts'
import type { Binding, Exchange, QueueTarget, TopicTarget } from './exchange.ts'
import type { FieldTable } from './field-table.ts'
import { DELAY, QUEUE_BINDING, SHARED_GROUP, SUBSCRIPTION } from './target-kinds.ts'
import { swapSeparators } from './topic.ts'

/** From here on a set says what is there already. */
const SET_FROM = 16

/** What a message reaches; made once and cleared for each message. */
export class Routes {
  /** Each queue once. */
  readonly queues: QueueTarget[]
  /** Each matching subscription once, shared ones too; a session may have several. */
  readonly subscriptions: TopicTarget[]
  /** Each exchange on the way that holds the message back. */
  readonly delays: DelayStore[]
  /** The message's deduplication key, '' without one. */
  key: string
  nowMs: number
  /** Each exchange on the way that has not seen the key yet. */
  readonly newIn: KeyCache[]
  /** Each that has, and let it go no further. */
  readonly refusedBy: KeyCache[]
  /** Scratch of `routeAll`. */
  readonly matched: TopicTarget[]
  readonly visited: Set<Exchange>
  private readonly queueSet: Set<QueueTarget>
  private readonly subscriptionSet: Set<TopicTarget>

  constructor() {
    this.queues = []
    this.subscriptions = []
    this.delays = []
    this.key = ''
    this.nowMs = 0
    this.newIn = []
    this.refusedBy = []
    this.matched = []
    this.visited = new Set()
    this.queueSet = new Set()
    this.subscriptionSet = new Set()
  }

  get isEmpty(): boolean {
    return this.queues.length === 0 && this.subscriptions.length === 0
  }

  clear(): void {
    this.queues.length = 0
    this.subscriptions.length = 0
    this.delays.length = 0
    this.key = ''
    this.newIn.length = 0
    this.refusedBy.length = 0
    if (this.queueSet.size !== 0) this.queueSet.clear()
    if (this.subscriptionSet.size !== 0) this.subscriptionSet.clear()
  }

  addQueue(queue: QueueTarget): void {
    addOnce(this.queues, this.queueSet, queue)
  }

  /** False: a duplicate. */
  passes(cache: KeyCache): boolean {
    if (this.key === '') return true
    const isDuplicate = cache.has(this.key, this.nowMs)
    if (isDuplicate) this.refusedBy.push(cache)
    else this.newIn.push(cache)
    return !isDuplicate
  }

  addSubscription(subscription: TopicTarget): void {
    addOnce(this.subscriptions, this.subscriptionSet, subscription)
  }
}

/**
 * Adds to `out` every queue and subscription that a message published to `exchange` reaches, each once;
 * `out` is not cleared before. `key` and `moreKeys` (AMQP's CC and BCC) are in the form of `exchange`:
 * topic form for a topic exchange, AMQP's for all others; on the way between the two kinds they are
 * swapped. Each exchange is passed once: circles end. An exchange that itself matches nothing hands the
 * message to its alternate. Returns whether anything was matched: false means no route.
 */
export function routeAll(
  exchange: Exchange,
  key: string,
  headers: FieldTable | null,
  out: Routes,
  moreKeys: readonly string[] | null = null
): boolean {
  const isTopicForm = exchange.kind === 'topic'
  const { matched, visited } = out
  let isRouted = false
  visited.clear()
  visited.add(exchange)
  // A set is walked to its end while it grows: the worklist and what was seen in one.
  for (const current of visited) {
    current.isPassed = true
    const isSwapped = (current.kind === 'topic') !== isTopicForm
    matched.length = 0
    if (current.cache === null || out.passes(current.cache)) {
      current.collect(isSwapped ? swapSeparators(key) : key, headers, matched)
    }
    if (moreKeys !== null && (current.kind === 'direct' || current.kind === 'topic')) {
      for (const more of moreKeys) {
        current.collect(isSwapped ? swapSeparators(more) : more, headers, matched)
      }
    }
    if (matched.length === 0) {
      if (current.alternate !== null) visited.add(current.alternate)
      continue
    }
    if (addMatched(matched, out)) isRouted = true
  }
  // What was routed must not be held until the next message.
  matched.length = 0
  visited.clear()
  return isRouted
}

/** True when a queue or subscription was among them, new or not. */
function addMatched(matched: readonly TopicTarget[], out: Routes): boolean {
  let isRouted = false
  for (let i = 0; i < matched.length; i++) {
    const target = matched[i] as TopicTarget
    if (target.kind === SUBSCRIPTION || target.kind === SHARED_GROUP) {
      out.addSubscription(target)
      isRouted = true
      continue
    }
    if (target.kind === DELAY) {
      // With further keys it comes once for each.
      if (!out.delays.includes(target as DelayStore)) out.delays.push(target as DelayStore)
      isRouted = true
      continue
    }
    const binding = target as Binding
    if (binding.kind === QUEUE_BINDING) {
      out.addQueue(binding.queue as QueueTarget)
      isRouted = true
    } else {
      out.visited.add(binding.exchange as Exchange)
    }
  }
  return isRouted
}

function addOnce<T>(list: T[], set: Set<T>, item: T): void {
  if (list.length < SET_FROM) {
    if (!list.includes(item)) list.push(item)
    return
  }
  if (set.size === 0) for (const each of list) set.add(each)
  if (set.has(item)) return
  set.add(item)
  list.push(item)
}
