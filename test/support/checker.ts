/**
 * Judges the history of a run: what "nothing lost" means, object by object. One pass over the events and one over the
 * messages, so its time grows with the history only (retained topics: n log n). It never guesses: what a client could
 * not know (a publish without an answer, an acknowledgement on a dying connection) excuses every outcome it could have
 * had, and nothing more.
 */
import { type Guarantee, type HistoryEvent, messageId } from './history.ts'
import { RetainedChecker } from './checker-retained.ts'

export type Rule =
  | 'lost'
  | 'duplicate'
  | 'unmarked'
  | 'order'
  | 'acked-again'
  | 'phantom'
  | 'corrupt'
  | 'unauthorised'
  | 'unsubscribed'
  | 'subscription-lost'
  | 'session'
  | 'stale-retained'
  | 'retained-backwards'
  | 'phantom-retained'
  | 'count'
  | 'late'

export interface Violation {
  readonly rule: Rule
  readonly object: string
  readonly flow: string
  readonly id: string
  readonly detail: string
}

export interface CheckOptions {
  /** How long before a kill an acknowledgement of a consumer may be forgotten; pauses of the broker are added. */
  readonly killGraceMs?: number
  /** The same before a power cut. */
  readonly powerGraceMs?: number
}

export interface CheckStats {
  /** Messages, not transmissions. */
  sent: number
  acked: number
  /** Never answered. */
  unknown: number
  /** Deliveries, over all objects. */
  received: number
  /** Deliveries of a message that its object had seen. */
  duplicates: number
  /** Unknown ones that arrived all the same. */
  recovered: number
  crashes: number
}

export interface CheckResult {
  readonly violations: Violation[]
  readonly stats: CheckStats
}

class Publication {
  readonly id: string
  readonly flow: string
  readonly seq: number
  readonly qos: number
  readonly invokedAt: number
  sentAt: number
  /**
   * How many messages the broker may rightly have made of it: at QoS 1 each transmission is one of its own; at QoS 2
   * only after a crash, which may have undone the first. (Towards a QoS 2 subscriber it is one all the same.)
   */
  copies = 1
  ackedAt = Number.POSITIVE_INFINITY
  refused = false
  arrived = false
  readonly expires: boolean
  readonly due: number

  constructor(event: HistoryEvent) {
    this.flow = event.flow ?? ''
    this.seq = event.seq ?? -1
    this.id = event.id ?? messageId(this.flow, this.seq)
    this.qos = event.qos === 'queue' ? 1 : (event.qos ?? 1)
    this.invokedAt = event.t
    this.sentAt = event.t
    this.expires = event.expires ?? false
    this.due = event.due ?? Number.POSITIVE_INFINITY
  }
}

interface Receipt {
  count: number
  /** Deliveries that did not say they were repeats. */
  unmarked: number
  lastAt: number
  ackedAt: number[]
}

interface Claim {
  readonly guarantee: Guarantee
  readonly invokedAt: number
  from: number
  to: number
  /** When it was told that it is not subscribed any more. */
  endedAt: number
  /** Times, from UNSUBACK to SUBSCRIBE, whose messages must not come. */
  readonly gaps: { from: number; to: number }[]
}

/** A session, a queue, a far side: what messages are owed to. */
class Owner {
  readonly name: string
  readonly claims = new Map<string, Claim>()
  readonly forbidden = new Set<string>()
  readonly receipts = new Map<string, Receipt>()
  /** Highest first-seen sequence, by lane and flow. */
  readonly highest = new Map<string, number>()
  readonly lanes = new Set<string>()
  session: 'none' | 'kept' | 'unknown' = 'none'
  dropped = 0
  waiting = 0
  counted = false

  constructor(name: string) {
    this.name = name
  }
}

interface Crash {
  readonly at: number
  readonly graceNs: number
  readyAt: number
}

/** The lower of the two promises: the publisher's and the subscriber's. */
function effective(publication: Publication, claim: Claim): Guarantee {
  // Also of a QoS 0 message, which is not owed: a queue that has it may deliver it again.
  if (claim.guarantee === 'queue') return 'queue'
  return publication.qos < claim.guarantee ? (publication.qos as Guarantee) : claim.guarantee
}

class Checker {
  readonly #violations: Violation[] = []
  readonly #publications = new Map<string, Publication>()
  readonly #flows = new Map<string, Publication[]>()
  readonly #owners = new Map<string, Owner>()
  readonly #crashes: Crash[] = []
  readonly #pauses: { at: number; ns: number }[] = []
  readonly #retained: RetainedChecker
  readonly #killGraceNs: number
  readonly #powerGraceNs: number
  #received = 0
  #duplicates = 0

  constructor(options: CheckOptions) {
    this.#killGraceNs = (options.killGraceMs ?? 50) * 1e6
    this.#powerGraceNs = (options.powerGraceMs ?? 1000) * 1e6
    this.#retained = new RetainedChecker((rule, topic, id, detail) =>
      this.#report(rule, 'retained', topic, id, detail)
    )
  }

  apply(event: HistoryEvent): void {
    if (event.f === 'pub') this.#published(event)
    else if (event.f === 'recv') this.#receivedOne(event)
    else if (event.f === 'cons-ack') this.#consumerAcked(event)
    else if (event.f === 'sub') this.#subscribed(event)
    else if (event.f === 'unsub') this.#unsubscribed(event)
    else if (event.f === 'forbid') this.#owner(event).forbidden.add(event.flow ?? '')
    else if (event.f === 'set') this.#retained.written(event)
    else if (event.f === 'get') this.#retained.read(event)
    else if (event.f === 'conn') this.#connected(event)
    else if (event.f === 'crash') this.#crashed(event)
    else if (event.f === 'start') this.#started(event)
    else if (event.f === 'pause') this.#pauses.push({ at: event.t, ns: (event.value ?? 0) * 1e6 })
    else this.#counted(event)
  }

  finish(): CheckResult {
    this.#retained.finish()
    for (const owner of this.#owners.values()) this.#settle(owner)
    const stats: CheckStats = {
      sent: this.#publications.size,
      acked: 0,
      unknown: 0,
      received: this.#received,
      duplicates: this.#duplicates,
      recovered: 0,
      crashes: this.#crashes.length
    }
    for (const publication of this.#publications.values()) {
      if (publication.ackedAt < Number.POSITIVE_INFINITY) stats.acked++
      else if (!publication.refused) {
        stats.unknown++
        if (publication.arrived) stats.recovered++
      }
    }
    return { violations: this.#violations, stats }
  }

  #report(rule: Rule, object: string, flow: string, id: string, detail: string): void {
    this.#violations.push({ rule, object, flow, id, detail })
  }

  #owner(event: HistoryEvent): Owner {
    let owner = this.#owners.get(event.proc)
    if (owner === undefined) this.#owners.set(event.proc, (owner = new Owner(event.proc)))
    return owner
  }

  #published(event: HistoryEvent): void {
    const id = event.id ?? messageId(event.flow ?? '', event.seq ?? -1)
    let publication = this.#publications.get(id)
    if (event.type === 'invoke') {
      if (publication !== undefined) {
        const { qos, sentAt } = publication
        if (qos === 1 || this.#crashes.some(({ at }) => at > sentAt)) publication.copies++
        publication.sentAt = event.t
        return
      }
      publication = new Publication(event)
      this.#publications.set(id, publication)
      const flow = this.#flows.get(publication.flow)
      if (flow === undefined) this.#flows.set(publication.flow, [publication])
      else flow.push(publication)
    } else if (publication !== undefined && event.type === 'ok') {
      publication.ackedAt = Math.min(publication.ackedAt, event.t)
    } else if (publication !== undefined && event.type === 'fail') publication.refused = true
  }

  #subscribed(event: HistoryEvent): void {
    const owner = this.#owner(event)
    const flow = event.flow ?? ''
    const known = owner.claims.get(flow)
    if (event.type === 'fail') {
      if (known?.from === Number.POSITIVE_INFINITY) owner.claims.delete(flow)
    } else if (known === undefined || known.to < Number.POSITIVE_INFINITY) {
      const gaps = known?.gaps ?? []
      if (known !== undefined) gaps.push({ from: known.endedAt, to: event.t })
      owner.claims.set(flow, {
        guarantee: event.qos ?? 1,
        invokedAt: event.t,
        from: event.type === 'ok' ? event.t : Number.POSITIVE_INFINITY,
        to: Number.POSITIVE_INFINITY,
        endedAt: Number.POSITIVE_INFINITY,
        gaps
      })
    } else if (event.type === 'ok') known.from = Math.min(known.from, event.t)
  }

  #unsubscribed(event: HistoryEvent): void {
    const claim = this.#owner(event).claims.get(event.flow ?? '')
    if (claim === undefined) return
    claim.to = Math.min(claim.to, event.t)
    if (event.type === 'ok') claim.endedAt = Math.min(claim.endedAt, event.t)
  }

  /** What was sent, and taken by the broker, while a subscription was certainly not there. */
  #judgeGaps(owner: Owner, flow: string, claim: Claim): void {
    const gaps = [...claim.gaps, { from: claim.endedAt, to: Number.POSITIVE_INFINITY }]
    for (const { id, invokedAt, ackedAt } of this.#flows.get(flow) ?? []) {
      if (!owner.receipts.has(id)) continue
      if (!gaps.some(({ from, to }) => invokedAt > from && ackedAt < to)) continue
      this.#report('unsubscribed', owner.name, flow, id, 'sent after its UNSUBACK')
    }
  }

  #crashed(event: HistoryEvent): void {
    const graceNs = event.how === 'power' ? this.#powerGraceNs : this.#killGraceNs
    if (event.how === 'stop') return
    const readyAt = Number.POSITIVE_INFINITY
    this.#crashes.push({ at: event.t, graceNs: this.#running(event.t, graceNs), readyAt })
    for (const owner of this.#owners.values()) {
      // What died unseen on one consumer's connection may now come to another, and come late.
      if (owner.lanes.size > 1) owner.highest.clear()
    }
  }

  /** How far before `at` a time of `ns` began in which the broker ran: its pauses do not count. */
  #running(at: number, ns: number): number {
    let sum = ns
    for (const pause of this.#pauses.toReversed()) {
      if (pause.at < at - sum) break
      sum += pause.ns
    }
    return sum
  }

  #started(event: HistoryEvent): void {
    const crash = this.#crashes.at(-1)
    if (crash !== undefined) crash.readyAt = Math.min(crash.readyAt, event.t)
  }

  #connected(event: HistoryEvent): void {
    const owner = this.#owner(event)
    if (event.type !== 'ok') {
      // A CONNECT without its CONNACK may have made a session or ended one.
      if (event.type === 'info') owner.session = 'unknown'
      return
    }
    const present = event.present === true
    const say = (detail: string) => this.#report('session', owner.name, '', '', detail)
    if (event.clean === true && present) say('a clean start was told that its session is present')
    else if (owner.session === 'none' && present) say('a session is present that never was')
    else if (owner.session === 'kept' && event.clean !== true && !present) {
      say('the session that was promised to last is gone')
    }
    owner.session = event.lasting === true ? 'kept' : 'none'
  }

  #counted(event: HistoryEvent): void {
    const owner = this.#owner(event)
    owner.counted = true
    if (event.f === 'count') owner.dropped += event.value ?? 0
    else owner.waiting += event.value ?? 0
  }

  /** Acknowledgements that no crash can have undone. */
  #settledCount(receipt: Receipt): number {
    let settled = 0
    for (const at of receipt.ackedAt) {
      const forgotten = this.#crashes.some(
        // The second: acknowledged towards a connection whose broker was dead already.
        crash =>
          (at <= crash.at && crash.at - at <= crash.graceNs) ||
          (at > crash.at && at < crash.readyAt)
      )
      if (!forgotten) settled++
    }
    return settled
  }

  #consumerAcked(event: HistoryEvent): void {
    if (event.type !== 'ok') return
    this.#owner(event)
      .receipts.get(event.id ?? '')
      ?.ackedAt.push(event.t)
  }

  #receivedOne(event: HistoryEvent): void {
    this.#received++
    const owner = this.#owner(event)
    const flow = event.flow ?? ''
    const id = event.id ?? messageId(flow, event.seq ?? -1)
    const publication = this.#publications.get(id)
    const claim = owner.claims.get(flow)
    if (event.intact === false) {
      this.#report('corrupt', owner.name, flow, id, 'other bytes than were sent')
    } else if (owner.forbidden.has(flow)) {
      this.#report('unauthorised', owner.name, flow, id, 'may not be read by it')
    } else if (publication === undefined || publication.flow !== flow) {
      this.#report('phantom', owner.name, flow, id, 'never sent')
    } else if (publication.refused) {
      this.#report('phantom', owner.name, flow, id, 'its publisher was told it is refused')
    } else if (claim === undefined) {
      this.#report('unsubscribed', owner.name, flow, id, 'it never asked for this flow')
    } else this.#judgeReceipt(owner, publication, claim, event)
  }

  #judgeReceipt(owner: Owner, publication: Publication, claim: Claim, event: HistoryEvent): void {
    const { id, flow } = publication
    const marked = event.dup === true
    const receipt = owner.receipts.get(id)
    publication.arrived = true
    if (receipt === undefined) {
      if (event.t > publication.due) {
        const lateMs = Math.round((event.t - publication.due) / 1e6)
        this.#report('late', owner.name, flow, id, `${lateMs} ms after it was due`)
      }
      // A repeat after a crash may be the first that reaches a subscription made meanwhile.
      const isFirst = publication.copies === 1 || claim.gaps.length === 0
      if (isFirst) this.#judgeOrder(owner, publication, event)
      owner.receipts.set(id, { count: 1, unmarked: marked ? 0 : 1, lastAt: event.t, ackedAt: [] })
      return
    }
    this.#duplicates++
    const guarantee = effective(publication, claim)
    if (guarantee === 2 || guarantee === 0) {
      if (receipt.count >= (guarantee === 2 ? 1 : publication.copies)) {
        this.#report('duplicate', owner.name, flow, id, `delivery ${receipt.count + 1}`)
      }
    } else if (!marked && receipt.unmarked >= publication.copies) {
      const crashed = this.#crashes.some(crash => crash.at > receipt.lastAt)
      if (guarantee !== 'queue' || !crashed) {
        this.#report('unmarked', owner.name, flow, id, 'a repeat that does not say so')
      }
    } else if (this.#settledCount(receipt) >= publication.copies) {
      this.#report('acked-again', owner.name, flow, id, 'delivered after its acknowledgement')
    }
    receipt.count++
    receipt.lastAt = event.t
    if (!marked) receipt.unmarked++
  }

  /**
   * First transmissions of a flow come in order. With several consumers of one queue only what is not marked as a
   * repeat is a first transmission: the real first one may have died on another consumer's connection.
   */
  #judgeOrder(owner: Owner, publication: Publication, event: HistoryEvent): void {
    const lane = event.lane ?? ''
    owner.lanes.add(lane)
    if (owner.lanes.size > 1 && event.dup === true) return
    const key = `${lane} ${publication.flow}`
    const highest = owner.highest.get(key) ?? -1
    if (publication.seq > highest) owner.highest.set(key, publication.seq)
    else {
      const detail = `${publication.seq} came after ${highest}`
      this.#report('order', owner.name, publication.flow, publication.id, detail)
    }
  }

  #settle(owner: Owner): void {
    const missing: Publication[] = []
    let least = 0
    let most = 0
    let delivered = 0
    for (const receipt of owner.receipts.values()) delivered += Math.max(1, receipt.unmarked)
    for (const [flow, claim] of owner.claims) {
      if (owner.forbidden.has(flow)) continue
      this.#judgeGaps(owner, flow, claim)
      const lost: Publication[] = []
      let owed = 0
      for (const publication of this.#flows.get(flow) ?? []) {
        // What was still on its way when the subscription ended may have come too late, or again after a crash.
        const isInTime = claim.to === Number.POSITIVE_INFINITY || publication.ackedAt < claim.to
        const isDue = publication.invokedAt > claim.from && isInTime
        if (publication.refused || publication.expires) continue
        const isCertain = publication.qos === 0 || publication.ackedAt < Number.POSITIVE_INFINITY
        if (isDue && isCertain) least++
        most += publication.copies
        if (!isDue || effective(publication, claim) === 0) continue
        if (publication.ackedAt === Number.POSITIVE_INFINITY) continue
        owed++
        if (!owner.receipts.has(publication.id)) lost.push(publication)
      }
      if (this.#isSubscriptionLost(flow, claim, lost)) {
        const detail = `nothing of this flow arrived after a crash: ${lost.length} of ${owed} lost`
        this.#report('subscription-lost', owner.name, flow, lost[0]?.id ?? '', detail)
      } else missing.push(...lost)
    }
    if (missing.length > owner.dropped + owner.waiting) {
      for (const { flow, id, ackedAt } of missing) {
        this.#report('lost', owner.name, flow, id, `acknowledged at ${ackedAt}, never received`)
      }
    }
    const sum = delivered + owner.waiting + owner.dropped
    if (owner.counted && this.#crashes.length === 0 && (sum < least || sum > most)) {
      const sent = least === most ? `${least}` : `${least} to ${most}`
      const parts = `${delivered} delivered + ${owner.waiting} waiting + ${owner.dropped} dropped`
      this.#report('count', owner.name, '', '', `${sent} sent, but ${parts}`)
    }
  }

  /** All that was acknowledged after a crash is missing, and more than one message: not the messages got lost. */
  #isSubscriptionLost(flow: string, claim: Claim, lost: Publication[]): boolean {
    const first = lost[0]
    if (first === undefined || lost.length < 2) return false
    const crash = this.#crashes.findLast(({ at }) => at < first.invokedAt && at > claim.from)
    if (crash === undefined) return false
    let after = 0
    for (const publication of this.#flows.get(flow) ?? []) {
      const acked = publication.ackedAt < Number.POSITIVE_INFINITY
      if (acked && publication.invokedAt > crash.at && publication.invokedAt < claim.to) after++
    }
    return after === lost.length
  }
}

/** Judges the events of one run; sorts them by time when they come from several files. */
export function checkHistory(
  events: readonly HistoryEvent[],
  options: CheckOptions = {}
): CheckResult {
  const isSorted = events.every((event, index) => index === 0 || events[index - 1]!.t <= event.t)
  const ordered = isSorted ? events : events.toSorted((a, b) => a.t - b.t)
  const checker = new Checker(options)
  for (const event of ordered) checker.apply(event)
  return checker.finish()
}

/** A few lines for a failure's message. */
export function describeViolations(violations: readonly Violation[], shown = 20): string {
  const lines = violations
    .slice(0, shown)
    .map(({ rule, object, flow, id, detail }) => `${rule}: ${object} ${flow} ${id}: ${detail}`)
  if (violations.length > shown) lines.push(`… and ${violations.length - shown} more`)
  return lines.join('\n')
}
