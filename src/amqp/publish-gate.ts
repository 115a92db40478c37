/**
 * Whether a connection's publishes are taken now. One that is not is held and nothing more is read; a client that
 * publishes while an alarm is up, and that asked for it, is told by connection.blocked, once, until all alarms
 * are over (amqp-semantics.md §2.5).
 */
import type { Broker } from '../broker/broker.ts'
import { CONNECTION, encodeMethod } from './codec/methods.ts'

/** What the gate asks of its connection. */
export interface GatedConnection {
  readonly broker: Broker
  readonly isRunning: boolean
  readonly client: { readonly connectionBlocked: boolean }
  writeFrame(frame: Buffer): void
  resume(): void
}

export class PublishGate {
  readonly #connection: GatedConnection
  /** A publish is held until the broker takes it again. */
  #isHeld: boolean
  /** connection.blocked was sent, or would have been. */
  #isBlocked: boolean

  constructor(connection: GatedConnection) {
    this.#connection = connection
    this.#isHeld = false
    this.#isBlocked = false
  }

  /** A publish may not be taken. */
  hold(): void {
    this.#isHeld = true
    this.#tell()
  }

  /** An alarm was raised or is over, or what else held us. */
  onChange(): void {
    this.#tell()
    const { broker } = this.#connection
    if (!this.#isHeld || broker.isPaused || broker.diskAlarm) return
    // What others held back has filled the buffers again: told once more when that is over.
    if (broker.journal.isCrowded) return
    this.#isHeld = false
    this.#connection.resume()
  }

  #tell(): void {
    const connection = this.#connection
    const { broker } = connection
    const isAlarmed = broker.diskAlarm || broker.memoryAlarm
    // Who was told stays so until all alarms are over; who does not publish is not told.
    if (isAlarmed === this.#isBlocked || (isAlarmed && !this.#isHeld)) return
    this.#isBlocked = isAlarmed
    if (!connection.client.connectionBlocked || !connection.isRunning) return
    connection.writeFrame(
      isAlarmed
        ? encodeMethod(CONNECTION.blocked, 0, { reason: reasonOf(broker) })
        : encodeMethod(CONNECTION.unblocked, 0, {})
    )
  }
}

/** RabbitMQ's words. */
function reasonOf(broker: Broker): string {
  if (!broker.memoryAlarm) return 'low on disk'
  return broker.diskAlarm ? 'low on memory & disk' : 'low on memory'
}
