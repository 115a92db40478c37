/**
 * Where a message with a certain key goes: the answer of an exchange, compiled for the hot path and
 * remembered. One session gets one copy however many of its filters match: the highest QoS, retain as
 * published if any asks for it, all subscription identifiers; no local drops a match, not the message
 * (design.md §2).
 */
import { SHARED_GROUP } from './target-kinds.ts'
import type { KeyCache } from './deduplication.ts'
import type { DelayStore } from './delay-store.ts'
import type { FieldTable } from './field-table.ts'
import type { Queue } from './queue.ts'
import type { Session, Subscription } from './session.ts'
import type { SharedGroup } from './shared-group.ts'

export class SessionTarget {
  readonly session: Session
  qos: number
  retainAsPublished: boolean
  identifiers: number[] | null
  /** All matches, kept only when one of them is no local. */
  noLocal: Subscription[] | null

  constructor(session: Session) {
    this.session = session
    this.qos = 0
    this.retainAsPublished = false
    this.identifiers = null
    this.noLocal = null
  }

  add(subscription: Subscription): void {
    if (subscription.qos > this.qos) this.qos = subscription.qos
    if (subscription.retainAsPublished) this.retainAsPublished = true
    if (subscription.identifier === 0) return
    // One used for several that match stands there as often (MQTT 5 §3.3.4).
    if (this.identifiers === null) this.identifiers = [subscription.identifier]
    else this.identifiers.push(subscription.identifier)
  }
}

/** What only some exchanges on the way ask for: then such a route is one message's own. Or it is traced. */
export interface Detour {
  /** What holds the message back. */
  readonly stores: readonly DelayStore[]
  readonly headers: FieldTable
  /** Its deduplication key, '' without one, and how long that is remembered; -1: as each exchange says. */
  readonly key: string
  readonly keyTtlMs: number
  /** Exchanges that will remember the key. */
  readonly newIn: readonly KeyCache[]
  /** Exchanges to which it is a duplicate. */
  readonly refusedBy: readonly KeyCache[]
  /** Its publisher is to be told of to whoever traces the virtual host. */
  readonly isTraced: boolean
  /** Its BCC keys: see blind-keys.ts. */
  readonly blind: readonly number[] | null
}

/** Of a route that asks for nothing else: any message's. */
export const TRACED: Detour = {
  stores: [],
  headers: [],
  key: '',
  keyTtlMs: -1,
  newIn: [],
  refusedBy: [],
  isTraced: true,
  blind: null
}

export class Route {
  /** The one destination, when that is a queue: nothing else is looked at then. */
  readonly only: Queue | null
  readonly sessions: readonly SessionTarget[]
  readonly queues: readonly Queue[]
  readonly groups: readonly SharedGroup[]
  readonly detour: Detour | null
  /** Destinations in all. */
  readonly count: number
  /** No queues, no groups, no detour. */
  readonly isToSessions: boolean
  /** Version of the exchanges when it was compiled. */
  readonly version: number
  /** Some queue keeps messages over a restart, at any QoS. */
  readonly hasDurableQueue: boolean
  /** Some session that outlives its connection takes QoS > 0, or some group that has such a member. */
  readonly hasLastingSession: boolean

  constructor(
    sessions: SessionTarget[],
    queues: readonly Queue[],
    version: number,
    groups: readonly SharedGroup[] = NO_GROUPS,
    detour: Detour | null = null
  ) {
    const isOne = queues.length === 1 && sessions.length === 0 && groups.length === 0
    this.only = isOne && detour === null ? queues[0]! : null
    // Remembered for long: a copy holds no room for more.
    this.sessions = sessions.length === 0 ? NO_SESSIONS : sessions.slice()
    this.queues = queues.length === 0 ? NO_QUEUES : queues
    this.groups = groups
    this.detour = detour
    this.count = sessions.length + queues.length + groups.length + (detour?.stores.length ?? 0)
    this.isToSessions = queues.length === 0 && groups.length === 0 && detour === null
    this.version = version
    this.hasDurableQueue =
      queues.some(queue => queue.isDurable) ||
      (detour?.stores.some(store => store.isDurable) ?? false)
    this.hasLastingSession =
      sessions.some(target => target.session.isLasting && target.qos > 0) ||
      groups.some(group => group.queue.isDurable)
  }

  get isEmpty(): boolean {
    return this.count === 0
  }
}

const NO_SESSIONS: readonly SessionTarget[] = []
const NO_QUEUES: readonly Queue[] = []
export const NO_GROUPS: readonly SharedGroup[] = []

/**
 * Joins the matches of each session. `mayRead` leaves out sessions whose user may not read the topic, and
 * groups all of whose members may not. A session's own subscriptions and its shared ones count apart.
 */
export function compileRoute(
  matches: readonly (Subscription | SharedGroup)[],
  queues: Queue[],
  version: number,
  mayRead: (session: Session) => boolean,
  detour: Detour | null = null
): Route {
  const targets: SessionTarget[] = []
  const groups: SharedGroup[] = []
  const bySession = new Map<Session, Subscription[]>()
  for (const subscription of matches) {
    if (subscription.kind === SHARED_GROUP) {
      // An AMQP consumer may read all that the filter matches, or it would not be one.
      const isRead = subscription.takers > 0 || [...subscription.members.keys()].some(mayRead)
      if (isRead) groups.push(subscription)
      continue
    }
    const list = bySession.get(subscription.session)
    if (list === undefined) bySession.set(subscription.session, [subscription])
    else list.push(subscription)
  }
  for (const [session, list] of bySession) {
    if (!mayRead(session)) continue
    const target = new SessionTarget(session)
    for (const subscription of list) target.add(subscription)
    if (list.some(subscription => subscription.noLocal)) target.noLocal = list
    targets.push(target)
  }
  return new Route(targets, queues, version, groups.length === 0 ? NO_GROUPS : groups, detour)
}

/** What the publisher's own session gets: its matches without no local. Null: nothing. */
export function withoutNoLocal(target: SessionTarget): SessionTarget | null {
  const left = (target.noLocal ?? []).filter(subscription => !subscription.noLocal)
  if (left.length === 0) return null
  const own = new SessionTarget(target.session)
  for (const subscription of left) own.add(subscription)
  return own
}
