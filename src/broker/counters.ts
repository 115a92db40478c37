/** What the hot paths count. Plain numbers in fixed places: nothing is looked up by name there. */
import type { DeathReason } from '../core/death.ts'
import { DROP_REASONS, type DropReason } from '../core/errors.ts'

export const PAYLOAD_RECEIVED = 0
export const PAYLOAD_SENT = 1

export class Counters {
  /** By QoS. AMQP: 0 unconfirmed, 1 confirmed. */
  readonly mqttReceived: number[]
  readonly mqttSent: number[]
  readonly amqpReceived: number[]
  readonly amqpSent: number[]
  /** MQTT packets other than PUBLISH. */
  mqttOthersReceived: number
  mqttOthersSent: number
  /** Payload bytes of PUBLISHes, [PAYLOAD_RECEIVED] and [PAYLOAD_SENT]: as fields they would be numbers on the heap. */
  readonly mqttPayloadBytes: Float64Array
  acknowledged: number
  mqttConnections: number
  mqttConnectionsTotal: number
  amqpConnections: number
  amqpConnectionsTotal: number
  bytesIn: number
  bytesOut: number
  loginFailures: number
  /** Sessions whose time was over before their client came back. */
  sessionsExpired: number
  /** Acknowledgements of what was not open, and the like: counted, ignored. */
  unexpectedAcks: number
  readonly dropped: Map<DropReason, number>
  /** Messages that left a queue for its dead letter exchange and were kept, by reason. */
  readonly deadLettered: Record<DeathReason, number>
  /** By virtual host, queue and reason; bounded. */
  readonly droppedByQueue: Map<string, number>

  constructor() {
    this.mqttReceived = [0, 0, 0]
    this.mqttSent = [0, 0, 0]
    this.amqpReceived = [0, 0, 0]
    this.amqpSent = [0, 0, 0]
    this.mqttOthersReceived = 0
    this.mqttOthersSent = 0
    this.mqttPayloadBytes = new Float64Array(2)
    this.acknowledged = 0
    this.mqttConnections = 0
    this.mqttConnectionsTotal = 0
    this.amqpConnections = 0
    this.amqpConnectionsTotal = 0
    this.bytesIn = 0
    this.bytesOut = 0
    this.loginFailures = 0
    this.sessionsExpired = 0
    this.unexpectedAcks = 0
    this.dropped = new Map(DROP_REASONS.map(reason => [reason, 0]))
    this.deadLettered = { expired: 0, rejected: 0, maxlen: 0, delivery_limit: 0 }
    this.droppedByQueue = new Map()
  }

  get mqttPacketsReceived(): number {
    return this.mqttOthersReceived + sumOf(this.mqttReceived)
  }

  get mqttPacketsSent(): number {
    return this.mqttOthersSent + sumOf(this.mqttSent)
  }

  /** What was dropped because something was full, slow or gone: not what nobody wanted or was allowed. */
  get droppedByLimits(): number {
    let sum = 0
    for (const [reason, count] of this.dropped) if (!UNWANTED.has(reason)) sum += count
    return sum
  }

  drop(reason: DropReason, count = 1): void {
    this.dropped.set(reason, this.dropped.get(reason)! + count)
  }

  /** AMQP deliveries that never reached the kernel: `open` ones, to be acknowledged, are in their queues again. */
  loseAmqp([settled, open]: readonly [number, number, number]): void {
    this.amqpSent[0]! -= settled
    this.amqpSent[1]! -= open
    this.drop('closed', settled)
  }

  /**
   * By QoS, what was written for a client and never left: QoS 0 is dropped, the rest waits on if its session does.
   * `keptOn`: so many of it went on to another member of a shared subscription.
   */
  loseMqtt(lost: readonly [number, number, number], isSessionEnded: boolean, keptOn: number): void {
    for (let qos = 0; qos < 3; qos++) this.mqttSent[qos]! -= lost[qos]!
    this.drop('closed', lost[0])
    if (isSessionEnded) this.drop('closed', lost[1] + lost[2] - keptOn)
  }

  /** A drop that the operator of a queue, or of an exchange that delays, wants to see. */
  dropFrom(
    queue: { readonly vhost: string; readonly name: string },
    reason: DropReason,
    count = 1
  ): void {
    this.dropIn(queue.vhost, queue.name, reason, count)
  }

  dropIn(vhost: string, name: string, reason: DropReason, count = 1): void {
    this.drop(reason, count)
    const key = `${vhost}\0${name}\0${reason}`
    const before = this.droppedByQueue.get(key)
    if (before === undefined && this.droppedByQueue.size >= QUEUES_MAX) return
    this.droppedByQueue.set(key, (before ?? 0) + count)
  }
}

/** Of all QoS together. */
export function sumOf(byQos: readonly number[]): number {
  return byQos[0]! + byQos[1]! + byQos[2]!
}

const QUEUES_MAX = 1_000
const UNWANTED: ReadonlySet<DropReason> = new Set([
  'no_match',
  'not_authorized',
  'offline_qos0',
  'topic_not_mqtt',
  'expired',
  'purged',
  'rejected',
  'delivery_limit',
  'queue_deleted',
  'deduplicated'
])
