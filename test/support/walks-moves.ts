/** What happens in a walk: moves of a few clients, time, and the broker's end. Small numbers, chosen by fast-check. */
import fc from 'fast-check'

/** Two of version 5, one of 3.1.1, one that changes from connection to connection. */
export const CLIENTS = ['c0', 'c1', 'c2', 'c3'] as const
export const TOPICS = ['a', 'a/b', 'a/c', 'b/c'] as const
export const FILTERS = [
  'a',
  'a/b',
  'a/#',
  '+/c',
  '#',
  'b/+',
  'w/#',
  '+/b',
  '$share/g/a/#',
  '$share/g/+/c',
  '$share/h/#'
] as const
/** Properties that a publisher may set. */
export const PROPERTY_SETS = 4

export interface ConnectMove {
  readonly kind: 'connect'
  readonly client: number
  readonly isVersion5: boolean
  readonly clean: boolean
  readonly expirySeconds: number
  readonly receiveMaximum: number
  readonly aliasMaximum: number
  readonly will: WillChoice | null
}

export interface WillChoice {
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly delaySeconds: number
}

export interface SubscribeChoice {
  readonly filter: number
  readonly qos: 0 | 1 | 2
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  readonly retainHandling: 0 | 1 | 2
}

export interface SubscribeMove {
  readonly kind: 'subscribe'
  readonly client: number
  /** 0: none. */
  readonly identifier: number
  readonly filters: readonly SubscribeChoice[]
}

export interface PublishMove {
  readonly kind: 'publish'
  readonly client: number
  readonly topic: number
  readonly qos: 0 | 1 | 2
  readonly retain: boolean
  readonly isEmpty: boolean
  /** 0: none. */
  readonly expirySeconds: number
  readonly properties: number
  /** 0: none; else set up when it is another topic's, used when it is this topic's. */
  readonly alias: number
}

export type DisconnectWay = 'normal' | 'with-will' | 'abrupt'

export interface DisconnectMove {
  readonly kind: 'disconnect'
  readonly client: number
  readonly way: DisconnectWay
  /** Session Expiry Interval of the DISCONNECT; null: none. */
  readonly expirySeconds: number | null
}

export interface CrashMove {
  readonly kind: 'crash'
  /** What is under way, and the disk call of it that the power goes at. */
  readonly during: PeerMove | null
  readonly calls: number
}

export type PeerMove =
  | ConnectMove
  | SubscribeMove
  | PublishMove
  | DisconnectMove
  | { readonly kind: 'unsubscribe'; readonly client: number; readonly filter: number }
  /** Acknowledges one of what waits for it. */
  | {
      readonly kind: 'ack'
      readonly client: number
      readonly which: number
      readonly refuses: boolean
    }
  /** PUBREL, or the PUBLISH of QoS 2 once more. */
  | {
      readonly kind: 'release'
      readonly client: number
      readonly which: number
      readonly again: boolean
    }

export type Move =
  | PeerMove
  | CrashMove
  | { readonly kind: 'pass'; readonly seconds: number }
  | { readonly kind: 'stop' }

const client = fc.nat({ max: CLIENTS.length - 1 })
const qos = fc.constantFrom<(0 | 1 | 2)[]>(1, 2, 0, 1, 2)
const rarely = fc.nat({ max: 5 }).map(n => n === 5)
const seldom = fc.nat({ max: 9 }).map(n => n === 9)

const connect = fc.record<ConnectMove>({
  kind: fc.constant('connect'),
  client,
  isVersion5: fc.boolean(),
  clean: rarely,
  expirySeconds: fc.constantFrom(100, 0, 4, 100, 1000),
  receiveMaximum: fc.constantFrom(0, 1, 2, 3),
  aliasMaximum: fc.constantFrom(0, 2),
  will: fc.option(
    fc.record<WillChoice>({
      qos,
      retain: rarely,
      delaySeconds: fc.constantFrom(0, 2, 9)
    })
  )
})

const subscribe = fc.record<SubscribeMove>({
  kind: fc.constant('subscribe'),
  client,
  identifier: fc.constantFrom(0, 1, 7, 300),
  filters: fc.uniqueArray(
    fc.record<SubscribeChoice>({
      filter: fc.nat({ max: FILTERS.length - 1 }),
      qos,
      noLocal: rarely,
      retainAsPublished: fc.boolean(),
      retainHandling: fc.constantFrom<(0 | 1 | 2)[]>(0, 1, 2)
    }),
    { minLength: 1, maxLength: 3, selector: each => each.filter }
  )
})

const publish = fc.record<PublishMove>({
  kind: fc.constant('publish'),
  client,
  topic: fc.nat({ max: TOPICS.length - 1 }),
  qos,
  retain: rarely,
  isEmpty: seldom,
  expirySeconds: fc.constantFrom(0, 0, 0, 2, 7),
  properties: fc.nat({ max: PROPERTY_SETS - 1 }),
  alias: fc.constantFrom(0, 0, 1, 2)
})

const disconnect = fc.record<DisconnectMove>({
  kind: fc.constant('disconnect'),
  client,
  way: fc.constantFrom<DisconnectWay[]>('abrupt', 'normal', 'with-will'),
  expirySeconds: fc.constantFrom(null, null, 0, 3, 100)
})

const peerMove: fc.Arbitrary<PeerMove> = fc.oneof(
  { weight: 3, arbitrary: connect },
  { weight: 4, arbitrary: subscribe },
  { weight: 12, arbitrary: publish },
  { weight: 2, arbitrary: disconnect },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('unsubscribe' as const),
      client,
      filter: fc.nat({ max: FILTERS.length - 1 })
    })
  },
  {
    weight: 7,
    arbitrary: fc.record({
      kind: fc.constant('ack' as const),
      client,
      which: fc.nat({ max: 3 }),
      refuses: seldom
    })
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('release' as const),
      client,
      which: fc.nat({ max: 2 }),
      again: rarely
    })
  }
)

const anyMove: fc.Arbitrary<Move> = fc.oneof(
  { weight: 60, arbitrary: peerMove },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      seconds: fc.constantFrom(1, 2, 5, 35)
    })
  },
  { weight: 1, arbitrary: fc.constant<Move>({ kind: 'stop' }) },
  {
    weight: 1,
    arbitrary: fc.record<CrashMove>({
      kind: fc.constant('crash'),
      during: fc.option(peerMove),
      calls: fc.nat({ max: 3 })
    })
  }
)

/** Everybody is there first: a walk whose clients come one by one shows little. */
const beginning = fc
  .tuple(connect, connect, connect, connect)
  .map(all => all.map((each, at) => ({ ...each, client: at })))

/** Always the same four, then anything. */
export const walk: fc.Arbitrary<Move[]> = fc
  .tuple(
    fc.oneof({ weight: 4, arbitrary: beginning }, { weight: 1, arbitrary: fc.constant([]) }),
    fc.array(anyMove, { minLength: 1, maxLength: 45, size: 'max' })
  )
  .map(([first, then]) => [...first, ...then])
