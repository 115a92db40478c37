/**
 * What we answer. Acknowledgements leave in the order of what they answer [MQTT-4.6.0-2 to -4]: at once
 * while nothing is owed, else behind what waits for the disk.
 */
import type { Publisher } from '../broker/consumer.ts'
import type { OwedAcks } from '../broker/owed.ts'
import type { PeerSocket } from '../net/socket.ts'
import { ackBytes, writeAck } from './codec/acks.ts'
import { PUBACK, PUBCOMP, PUBREC, PUBREL } from './codec/packet-types.ts'
import { writeRefusal } from './codec/write.ts'
import type { MqttContext } from './context.ts'
import { reasonOf, textOf } from './reason-codes.ts'

/** Something owed that is no plain acknowledgement: a CONNACK, a SUBACK and what follows it. */
export interface OwedTask {
  run(): void
}

/** The parts of a connection that answering needs. */
export interface Answering extends Publisher {
  readonly context: MqttContext
  readonly socket: PeerSocket
  readonly version: number
  readonly isClosed: boolean
  /** The client's Maximum Packet Size, bytes. */
  readonly outputPacketBytesMax: number
  /** Version 5: reason strings may stand in any packet [MQTT-3.1.2-29]. */
  readonly wantsProblems: boolean
  readonly owed: OwedAcks
  /** Those of `owed` that are no plain acknowledgements, in order. */
  readonly tasks: OwedTask[]
  /** Version 5: QoS > 0 PUBLISHes that we have not answered finally. */
  receivedCount: number
}

/** First bytes of the acknowledgements that we send. */
export const PUBACK_FIRST = PUBACK << 4
export const PUBREC_FIRST = PUBREC << 4
export const PUBREL_FIRST = (PUBREL << 4) | 2
export const PUBCOMP_FIRST = PUBCOMP << 4
/** In the ring of owed acknowledgements: the next of `tasks`. No packet begins with it. */
const TASK = 0
const REASON_SHIFT = 8
/** From here on stands the broker's error code, of those that refuse. */
const CODE_SHIFT = 16

/** Owes an acknowledgement: it leaves when `ticket` is durable and everything before it has left. */
export function owe(
  to: Answering,
  ticket: number,
  first: number,
  packetId: number,
  reason: number
): void {
  if (mayLeave(to, ticket)) sendAck(to, first, packetId, reason)
  else pushOwed(to, ticket, first | (reason << REASON_SHIFT), packetId)
}

/** Owes a PUBACK or PUBREC that refuses: `code` is one of the broker's ERROR_CODES. */
export function oweRefusal(to: Answering, first: number, packetId: number, code: number): void {
  if (mayLeave(to, 0)) sendRefusal(to, first, packetId, code)
  else pushOwed(to, 0, first | (code << CODE_SHIFT), packetId)
}

/** Like `owe`, for what is more than an acknowledgement. */
export function oweTask(to: Answering, ticket: number, task: OwedTask): void {
  if (mayLeave(to, ticket)) {
    task.run()
    return
  }
  to.tasks.push(task)
  pushOwed(to, ticket, TASK, 0)
}

/** The ring has released one: see `OwedVisitor`. */
export function sendOwed(to: Answering, a: number, b: number): void {
  if (to.isClosed) return
  if (a === TASK) to.tasks.shift()!.run()
  else if (a >> CODE_SHIFT > 0) sendRefusal(to, a & 255, b, a >> CODE_SHIFT)
  else sendAck(to, a & 255, b, a >> REASON_SHIFT)
}

/** With a reason string where the client takes it [MQTT-3.4.2-2] [MQTT-3.5.2-2]. */
function sendRefusal(to: Answering, first: number, packetId: number, code: number): void {
  const reason = reasonOf(code)
  if (to.version === 5 && to.wantsProblems) {
    const cmd = first === PUBREC_FIRST ? 'pubrec' : 'puback'
    const packet = writeRefusal(cmd, packetId, reason, textOf(code))
    if (packet.length <= to.outputPacketBytesMax) {
      if (to.receivedCount > 0) to.receivedCount--
      send(to, packet)
      return
    }
  }
  sendAck(to, first, packetId, reason)
}

/** The larger of two forms of a packet that the client takes: a reason string may make it too large. */
export function fitting(to: Answering, full: Buffer, bare: () => Buffer): Buffer {
  return full.length <= to.outputPacketBytesMax ? full : bare()
}

export function sendAck(to: Answering, first: number, packetId: number, reason: number): void {
  // Whatever ends the exchange gives the publisher's quota back (MQTT 5 §4.9).
  if (
    first === PUBACK_FIRST ||
    first === PUBCOMP_FIRST ||
    (first === PUBREC_FIRST && reason > 127)
  ) {
    if (to.receivedCount > 0) to.receivedCount--
  }
  to.context.broker.counters.mqttOthersSent++
  const shown = to.version === 5 ? reason : 0
  const at = to.socket.reserve(ackBytes(shown))
  writeAck(to.socket.buffer, at, first, packetId, shown)
}

/**
 * Sends a packet that mqtt-packet wrote. One over the client's Maximum Packet Size is not sent [MQTT-3.1.2-24]; the
 * limits that options set for older versions are for PUBLISHes: without its SUBACK such a client would wait for ever.
 */
export function send(to: Answering, packet: Buffer): void {
  if (packet.length > to.outputPacketBytesMax && to.version === 5) return
  to.context.broker.counters.mqttOthersSent++
  to.socket.write(packet, 0, packet.length)
}

function mayLeave(to: Answering, ticket: number): boolean {
  return to.owed.count === 0 && ticket <= to.context.broker.journal.durableTicket
}

function pushOwed(to: Answering, ticket: number, a: number, b: number): void {
  if (to.owed.count === 0) to.context.broker.waiting.add(to)
  to.owed.push(ticket, a, b)
}
