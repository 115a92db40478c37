/** The kinds of records. The journal's own lie below; a number is never used for another kind again. */
export const KIND = {
  /** A message with its destinations, inbound packet identifier and retained slot: one record for all. */
  message: 8,
  /** The same, for nobody who survives a restart: not replayed. */
  transient: 9,
  settle: 10,
  /** All ready messages of a queue up to a sequence. */
  purge: 11,
  /** PUBREC of an outbound QoS 2 delivery. */
  received: 12,
  /** PUBREL of an inbound QoS 2 message. */
  release: 13,
  /** Inbound QoS 2 packet identifiers: of a message that is kept nowhere, or of a checkpoint. */
  inbound: 14,
  queue: 16,
  queueDelete: 17,
  /** Entries of a chunk, at a checkpoint. */
  queueEntries: 18,
  /** Entries of a chunk that went cold. */
  queueIndex: 19,
  /** Names an index record, at a checkpoint. */
  queueCold: 20,
  /** An index record of a queue that does not survive a restart: not replayed. */
  transientIndex: 21,
  /** A level of a queue with priorities, when it is first used. */
  queueLevel: 22,
  exchange: 24,
  exchangeDelete: 25,
  bind: 26,
  unbind: 27,
  /** Delayed messages of an exchange, at a checkpoint. */
  delays: 28,
  /** A delayed message left its store, and no record of a message says so. */
  delayEnd: 29,
  session: 32,
  sessionEnd: 33,
  subscribe: 34,
  unsubscribe: 35,
  will: 36,
  willClear: 37,
  retained: 40,
  retainedClear: 41,
  sharedGroup: 42,
  sharedGroupEnd: 43,
  /** A session's place in a shared group: its `unsubscribe` is the usual one. */
  sharedMember: 44,
  /** Messages of a group that were moved to a member's queue. */
  sharedMove: 45,
  /** Back to the group, in their old places. */
  sharedMoveBack: 46,
  user: 48,
  userDelete: 49,
  vhost: 50,
  /** With all that it holds. */
  vhostEnd: 51,
  policy: 52,
  policyEnd: 53,
  /** Deduplication keys of an exchange or a queue, at a checkpoint. */
  keys: 54,
  counters: 56,
  /** How often an entry of a queue was delivered. */
  returned: 57,
  /** Entries of a queue that wait for a time of their own: also at a checkpoint. */
  held: 58,
  /** One of them is ready again. */
  unheld: 59,
  /** What stands from here to its end takes effect as a whole, or not at all. */
  transactionBegin: 60,
  transactionEnd: 61,
  /** The one that was begun last never ended: a crash took its end. */
  transactionDrop: 62,
  /** The broker stopped in order. What was delivered before stands in its queue, entry by entry: while this is the last record. */
  stopped: 63
} as const
