/** What a walk's model knows: plain data, so that it can be copied. */
import type { DisconnectWay } from './walks-moves.ts'

export interface Message {
  /** Payloads may be empty; these tell all apart. */
  readonly serial: number
  readonly payload: string
  readonly topic: string
  readonly qos: number
  readonly retain: boolean
  readonly from: string
  /** Its properties, as text. */
  readonly said: string
  /** 0: never. */
  readonly expiresAt: number
}

/** On its way to a session. */
export interface Item {
  readonly message: Message
  readonly qos: number
  /** What its RETAIN may be. */
  readonly retains: readonly boolean[]
  readonly ids: readonly number[]
  state: 'ready' | 'sent' | 'released'
  /** 0: not known yet. */
  packetId: number
  /** When it is sent next. */
  dup: 'no' | 'yes' | 'any'
  /** It has no place in the order. */
  readonly isFree: boolean
  /** It may never come. */
  isOptional: boolean
  /** The broker has restarted since: it counts as not sent, for its expiry. */
  isOld: boolean
  /** The shared subscription that it came by, or ''. */
  readonly group: string
  /** The filter that a retained message is sent for, or ''. */
  readonly replayOf: string
}

export interface Subscription {
  readonly qos: number
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  /** 0: none. */
  readonly identifier: number
}

export interface Will {
  readonly serial: number
  readonly topic: string
  readonly payload: string
  readonly qos: number
  readonly retain: boolean
  readonly delaySeconds: number
}

export interface Session {
  readonly clientId: string
  expirySeconds: number
  /** Null: nobody is connected. */
  connection: { readonly version: 4 | 5; readonly receiveMaximum: number } | null
  endsAt: number
  readonly subscriptions: Map<string, Subscription>
  readonly out: Item[]
  /** QoS 2 identifiers between PUBLISH and PUBREL. */
  readonly inbound: Set<number>
  will: Will | null
  /** 0: it does not wait. */
  willDueAt: number
}

/** In a shared subscription's queue. */
export interface Waiting {
  readonly message: Message
  isOptional: boolean
  /** Somebody had it before. */
  readonly isBack: boolean
  /** A restart keeps it. */
  readonly isKept: boolean
  /** By client identifier: the subscription that a member may have been given it by, unseen, before a crash. */
  readonly by?: ReadonlyMap<string, Subscription>
}

export interface State {
  nowMs: number
  readonly sessions: Map<string, Session>
  readonly retained: Map<string, Message>
  readonly waiting: Map<string, Waiting[]>
  orphans: { readonly clientId: string; readonly will: Will; readonly dueAt: number }[]
  /** To be sent now. */
  due: Due[]
  /** QoS 0 by a shared subscription: one of its members gets it now. */
  floating: { readonly message: Message; readonly group: string }[]
}

export interface Due {
  readonly clientId: string
  /** One of these; or a PUBLISH of QoS 0. */
  readonly texts: readonly string[]
  readonly publish: Item | null
  readonly isOptional: boolean
}

export type Action =
  | {
      readonly kind: 'connect'
      readonly clientId: string
      readonly version: 4 | 5
      readonly clean: boolean
      readonly expirySeconds: number
      readonly receiveMaximum: number
      readonly will: Will | null
    }
  | {
      readonly kind: 'subscribe'
      readonly clientId: string
      readonly packetId: number
      readonly filters: readonly (Subscription & {
        readonly filter: string
        readonly retainHandling: number
      })[]
    }
  | {
      readonly kind: 'unsubscribe'
      readonly clientId: string
      readonly packetId: number
      readonly filter: string
    }
  | {
      readonly kind: 'publish'
      readonly clientId: string
      readonly packetId: number
      readonly message: Omit<Message, 'expiresAt'>
      /** 0: none. */
      readonly expirySeconds: number
    }
  | {
      readonly kind: 'ack'
      readonly clientId: string
      readonly cmd: string
      readonly packetId: number
      readonly refuses: boolean
    }
  | { readonly kind: 'pubrel'; readonly clientId: string; readonly packetId: number }
  | {
      readonly kind: 'disconnect'
      readonly clientId: string
      readonly way: DisconnectWay
      readonly expirySeconds: number | null
    }
