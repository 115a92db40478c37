/** What is kept of one client of Aedes. */
import { Queue } from '../core/queue.ts'
import { sessionQueueOptions } from '../core/queue-options.ts'
import { MessageIds } from './message-ids.ts'

/** A body in the journal that is no queue's: a packet on its way in, a will. */
export class Body {
  segment: number
  offset: number
  /** Bytes of its record. */
  readonly bytes: number
  /** The ticket of its record; 0: it was there at the start. */
  readonly ticket: number

  constructor(segment: number, offset: number, bytes: number, ticket: number) {
    this.segment = segment
    this.offset = offset
    this.bytes = bytes
    this.ticket = ticket
  }
}

/** Whose broker it was, beside its body: `streamWill` looks at it first. */
export class StoredWill extends Body {
  readonly brokerId: string

  constructor(segment: number, offset: number, bytes: number, ticket: number, brokerId: string) {
    super(segment, offset, bytes, ticket)
    this.brokerId = brokerId
  }
}

/** All but the topic and QoS may be undefined, and comes back so: MQTT 3.1.1 has none of it. */
export interface Subscription {
  readonly clientId: string
  readonly topic: string
  readonly qos: number
  readonly rh: unknown
  readonly rap: unknown
  readonly nl: unknown
  readonly subscriptionIdentifier?: unknown
}

export class StoredClient {
  /** Also its queue's. Never used twice. */
  readonly number: number
  readonly clientId: string
  /** What is to be sent to it. */
  readonly queue: Queue
  readonly subscriptions: Map<string, Subscription>
  readonly ids: MessageIds
  /** QoS 2 packets of it that are not released, by packet identifier. */
  readonly incoming: Map<number, Body>
  will: StoredWill | null
  isEnded: boolean
  /** The entry that was given an identifier last: the next one is probably behind it. */
  lastUpdated: number

  constructor(number: number, clientId: string) {
    this.number = number
    this.clientId = clientId
    this.queue = new Queue(number, clientId, '/', sessionQueueOptions(true), true)
    this.subscriptions = new Map()
    this.ids = new MessageIds()
    this.incoming = new Map()
    this.will = null
    this.isEnded = false
    this.lastUpdated = 0
  }

  /** Nothing is kept for its sake any more. */
  get isEmpty(): boolean {
    return (
      this.subscriptions.size === 0 &&
      this.incoming.size === 0 &&
      this.will === null &&
      this.queue.count === 0
    )
  }
}
