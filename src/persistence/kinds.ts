/**
 * The records of a persistence: its own kinds, behind those of the broker that it uses too (message, settle,
 * received, index and entries of a queue, retained slots, counters). A number is never used again.
 */
export const OWN = {
  /** Number, client id, the next sequence of its queue. */
  client: 64,
  clientEnd: 65,
  subscribe: 66,
  unsubscribe: 67,
  /** The packet identifier of a queued packet. */
  assign: 68,
  /** The same of many, at a checkpoint. */
  identifiers: 69,
  /** An incoming QoS 2 packet. */
  incoming: 70,
  incomingDelete: 71,
  incomingClean: 72,
  /** Names an incoming packet's record, at a checkpoint. */
  incomingAt: 73,
  will: 74,
  willDelete: 75,
  willAt: 76,
  /** Counters of a broker up to this one may stand in the store. */
  counter: 77
} as const
