/**
 * PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 §3.4 to §3.7), whose fields stand in `ack`. One that answers
 * nothing is counted and ignored: after a reconnect they are ordinary.
 */
import { received, release, settle } from '../broker/settle.ts'
import { ENTRY_QOS, ENTRY_QOS_SHIFT, ENTRY_STATE, RELEASED, UNACKED } from '../core/queue-entry.ts'
import type { Session } from '../core/session.ts'
import { owe, PUBCOMP_FIRST, PUBREL_FIRST } from './answers.ts'
import { ack } from './codec/acks.ts'
import type { MqttConnection } from './connection.ts'
import { REASON } from './reason-codes.ts'

/** From here on reason codes are errors (§2.4). */
const FIRST_ERROR = 0x80
/** Acknowledgements of nothing that a client may send in a second. */
const UNEXPECTED_ACKS_A_SECOND = 10_000

export function handlePuback(connection: MqttConnection): void {
  const session = connection.session!
  const sequence = openSequence(session, 1, UNACKED)
  if (sequence < 0) countUnexpected(connection)
  else finish(connection, session, sequence)
}

export function handlePubrec(connection: MqttConnection): void {
  const session = connection.session!
  const { packetId, reason } = ack
  const sequence = openSequence(session, 2, UNACKED)
  if (sequence < 0) {
    // A PUBREC again, after its PUBREL [MQTT-4.3.3-5]: the PUBREL goes out again too.
    if (openSequence(session, 2, RELEASED) >= 0) owe(connection, 0, PUBREL_FIRST, packetId, 0)
    else {
      countUnexpected(connection)
      // Its receiver waits for a PUBREL, whatever became of the PUBLISH here; one that refused waits for nothing (§4.3.3).
      if (reason < FIRST_ERROR) {
        owe(connection, 0, PUBREL_FIRST, packetId, REASON.packetIdNotFound)
      }
    }
    return
  }
  if (reason >= FIRST_ERROR) {
    // The client refused it: that ends the exchange (§4.3.3).
    finish(connection, session, sequence)
    return
  }
  const ticket = received(connection.context.broker, session, sequence)
  owe(connection, ticket, PUBREL_FIRST, packetId, REASON.success)
}

export function handlePubrel(connection: MqttConnection): void {
  const session = connection.session!
  const { packetId } = ack
  const ticket = release(connection.context.broker, session, packetId)
  if (ticket < 0) {
    countUnexpected(connection)
    owe(connection, 0, PUBCOMP_FIRST, packetId, REASON.packetIdNotFound)
    return
  }
  owe(connection, ticket, PUBCOMP_FIRST, packetId, REASON.success)
}

export function handlePubcomp(connection: MqttConnection): void {
  const session = connection.session!
  const sequence = openSequence(session, 2, RELEASED)
  if (sequence < 0) countUnexpected(connection)
  else finish(connection, session, sequence)
}

/** The delivery that `ack` names, if it is open with this QoS and in this state; else -1. */
function openSequence(session: Session, qos: number, state: number): number {
  const sequence = session.sequenceOf(ack.packetId)
  const { queue } = session
  if (sequence < 0 || !queue.find(sequence)) return -1
  if ((queue.flags & ENTRY_STATE) !== state) return -1
  return (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT === qos ? sequence : -1
}

function finish(connection: MqttConnection, session: Session, sequence: number): void {
  const { broker } = connection.context
  settle(broker, session.queue, sequence)
  connection.wake(session)
}

/** Counted; a flood of them ends the connection. */
function countUnexpected(connection: MqttConnection): void {
  connection.context.broker.counters.unexpectedAcks++
  if (++connection.unexpectedAcks <= UNEXPECTED_ACKS_A_SECOND) return
  connection.close('too many unexpected acknowledgements', REASON.messageRateTooHigh, 'lost')
}
