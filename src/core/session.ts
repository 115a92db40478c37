/**
 * A session: what a client's subscriptions, deliveries and inbound QoS 2 state hang on. It owns a
 * queue; QoS and packet identifiers are the session's own (MQTT 5 §4.1, 3.1.1 §3.1.2.4).
 *
 * The queue's sequence is the one counter: packet identifier = sequence mod 65,535 + 1, so it needs
 * no record and is the same after a crash. Open sequences lie within 65,535 of each other; a
 * delivery whose identifier is still open waits.
 */
import type { InboundIds } from './inbound-ids.ts'
import type { Queue } from './queue.ts'
import type { Will } from './will.ts'

const PACKET_IDS = 65_535

/** What a SUBSCRIBE asked for; `kind` tells it from a queue's binding in the exchange's trie. */
export class Subscription {
  readonly kind = 2
  readonly session: Session
  readonly filter: string
  qos: number
  noLocal: boolean
  retainAsPublished: boolean
  retainHandling: number
  /** Subscription Identifier; 0 = none. */
  identifier: number
  /** Its retained messages are still to be sent: Retain Handling said so (MQTT 5 §3.8.3.1). */
  wantsReplay: boolean
  /** What was retained with a higher sequence reached this subscription as a live message. */
  retainedBefore: number
  /** Of a shared subscription: the group's id, which stands in the trie in its place; else 0. */
  readonly groupId: number
  /** What takes from the group for it: the broker's business, see broker/group-member.ts. */
  taker: object | null

  constructor(session: Session, filter: string, options: SubscribeOptions, groupId = 0) {
    this.session = session
    this.filter = filter
    this.qos = options.qos
    this.noLocal = options.noLocal
    this.retainAsPublished = options.retainAsPublished
    this.retainHandling = options.retainHandling
    this.identifier = options.identifier
    this.wantsReplay = false
    this.retainedBefore = 0
    this.groupId = groupId
    this.taker = null
  }
}

export interface SubscribeOptions {
  qos: number
  noLocal: boolean
  retainAsPublished: boolean
  retainHandling: number
  identifier: number
}

export class Session {
  readonly id: number
  readonly clientId: string
  readonly vhost: string
  /** The user who opened it; the client id is this user's [bad-inputs B37]. */
  readonly user: string
  readonly queue: Queue
  /** Protocol level: 3, 4 or 5. */
  version: number
  /** Outlives its connection. */
  isLasting: boolean
  /** Session Expiry Interval in seconds, as granted; 0 = ends with its connection. */
  expirySeconds: number
  /** Store time in milliseconds at which it ends; 0 while connected. */
  endsAt: number
  readonly subscriptions: Map<string, Subscription>
  /** Those of them that are shared; null: none. */
  shared: Subscription[] | null
  /** Ids of the groups that passed it by for want of credit, who did so first before the others; null: none. */
  starved: Set<number> | null
  wildcardCount: number
  /** Characters of all filters together. */
  filterChars: number
  /** Inbound QoS 2 packet identifiers not yet released, each with the ticket of its message. */
  inbound: InboundIds | null
  will: Will | null
  /** The connection that holds it: the broker's business, see broker/consumer.ts. */
  connection: object | null
  /** Highest ticket of the last verb on this session. */
  ticket: number
  /** At replay: a connection was there, so what waits may have been sent. */
  wasConnected: boolean
  /** Sequences of QoS 2 deliveries that wait for the disk, with their tickets, in order. */
  heldSequences: number[]
  heldTickets: number[]
  /** No open delivery is older: a bound that is renewed when it is needed. */
  oldestOpen: number

  constructor(id: number, clientId: string, vhost: string, user: string, queue: Queue) {
    this.id = id
    this.clientId = clientId
    this.vhost = vhost
    this.user = user
    this.queue = queue
    this.version = 4
    this.isLasting = false
    this.expirySeconds = 0
    this.endsAt = 0
    this.subscriptions = new Map()
    this.shared = null
    this.starved = null
    this.wildcardCount = 0
    this.filterChars = 0
    this.inbound = null
    this.will = null
    this.connection = null
    this.ticket = 0
    this.wasConnected = false
    this.heldSequences = []
    this.heldTickets = []
    this.oldestOpen = 0
  }

  /** Sequences and packet identifiers both begin with 1. */
  packetId(sequence: number): number {
    return ((sequence - 1) % PACKET_IDS) + 1
  }

  /** The delivery that was sent with this packet identifier, if any: whether it is open, ask the queue. */
  sequenceOf(packetId: number): number {
    const newest = this.queue.lastTaken
    const behind = (newest - packetId) % PACKET_IDS
    const sequence = newest - (behind < 0 ? behind + PACKET_IDS : behind)
    return sequence > 0 ? sequence : -1
  }

  /** An older delivery holds the packet identifier that `sequence` would get. */
  isPacketIdOpen(sequence: number): boolean {
    if (sequence - this.oldestOpen < PACKET_IDS) return false
    const first = this.queue.firstOpen()
    this.oldestOpen = first < 0 ? sequence : first
    return sequence - this.oldestOpen >= PACKET_IDS
  }
}
