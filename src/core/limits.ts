/** Every bound of the broker with its default; `config/options.ts` shows them to users. */
export interface Limits {
  topicBytesMax: number
  topicSeparatorsMax: number
  clientIdBytesMax: number
  userPropertiesMax: number
  mqttPacketBytesMax: number
  amqpMessageBytesMax: number
  preLoginBytesMax: number
  /** All connections before their login together. */
  preLoginTotalBytesMax: number
  loginTimeoutMs: number
  subscriptionsMax: number
  wildcardSubscriptionsMax: number
  filtersPerPacketMax: number
  retainedMax: number
  retainedBytesMax: number
  queuesMax: number
  bindingsMax: number
  vhostsMax: number
  sessionMessagesMax: number
  sessionBytesMax: number
  /** With so many no further one that outlasts its connection is opened. */
  sessionsMax: number
  /** All wills together. */
  willBytesMax: number
  /** Of what waits in the queue of a shared subscription. */
  sharedMessagesMax: number
  /** Of all exchanges that delay: each takes 32 to 50 bytes of memory. */
  delayedMessagesMax: number
  /** Of all exchanges and queues that refuse duplicates. */
  deduplicationKeysMax: number
  sharedBytesMax: number
  /** Sessions of one shared subscription. */
  sharedMembersMax: number
  inflightMax: number
  /** What we announce to version 5 publishers. */
  receiveMaximum: number
  /** Topic aliases of a connection, each way; what we announce to version 5 publishers. */
  topicAliasMax: number
  /** All topics that aliases of a connection stand for, each way. */
  topicAliasBytesMax: number
  sessionExpirySecondsMax: number
  channelUnackedMax: number
  /** Of messages that have not come whole and open transactions, of all AMQP channels; a connection's hold half. */
  channelBytesMax: number
  outputBytesMax: number
  drainTimeoutMs: number
  routeCacheMax: number
  /** Bodies of messages that no journal record holds. */
  memoryBytesMax: number
  /** With so much in use by the process publishers are held; 0 = a share of what there is. */
  memoryAlarmBytes: number
  /** Waiting messages, of all queues, whose 16-byte entries are in memory; the rest are index records. */
  hotEntriesMax: number
  queueQos0: boolean
  maxKeepaliveSeconds: number
  willRestartGraceMs: number
  /** How long a 3.1.1 publisher is held by a full reject-publish queue, then closed. */
  rejectHoldMs: number
  /** How long a 3.1.1 publisher is held by the disk's alarm, then closed. */
  alarmHoldMs: number
  alarmHoldBytes: number
  syncIdleMs: number
}

const MIB = 1024 * 1024

export const DEFAULT_LIMITS: Readonly<Limits> = {
  topicBytesMax: 65_535,
  topicSeparatorsMax: 200,
  clientIdBytesMax: 256,
  userPropertiesMax: 64,
  mqttPacketBytesMax: 2 * MIB,
  amqpMessageBytesMax: 16 * MIB,
  preLoginBytesMax: 64 * 1024,
  preLoginTotalBytesMax: 8 * MIB,
  loginTimeoutMs: 10_000,
  subscriptionsMax: 20_000,
  wildcardSubscriptionsMax: 1_000,
  filtersPerPacketMax: 1_000,
  retainedMax: 100_000,
  retainedBytesMax: 64 * MIB,
  queuesMax: 1_000_000,
  bindingsMax: 1_000_000,
  vhostsMax: 1_000,
  sessionMessagesMax: 100_000,
  sessionBytesMax: 64 * MIB,
  sessionsMax: 50_000,
  willBytesMax: 16 * MIB,
  sharedMessagesMax: 100_000,
  delayedMessagesMax: 2_000_000,
  deduplicationKeysMax: 1_000_000,
  sharedBytesMax: 64 * MIB,
  sharedMembersMax: 1_000,
  inflightMax: 1_000,
  receiveMaximum: 1_000,
  topicAliasMax: 100,
  topicAliasBytesMax: 64 * 1024,
  sessionExpirySecondsMax: 30 * 86_400,
  channelUnackedMax: 1_000_000,
  channelBytesMax: 128 * MIB,
  outputBytesMax: MIB,
  drainTimeoutMs: 30_000,
  routeCacheMax: 10_000,
  memoryBytesMax: 16 * MIB,
  memoryAlarmBytes: 0,
  hotEntriesMax: 500_000,
  queueQos0: false,
  maxKeepaliveSeconds: 0,
  willRestartGraceMs: 30_000,
  rejectHoldMs: 10_000,
  alarmHoldMs: 60_000,
  alarmHoldBytes: 64 * 1024,
  syncIdleMs: 1_000
}
