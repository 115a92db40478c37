/**
 * A publisher of version 3.1 or 3.1.1 that can neither be refused nor told to wait: what it sends is held
 * while the disk's alarm is up, and it is closed when that lasts.
 */
import type { MqttContext } from './context.ts'
import type { HeldPublishes } from './held-publishes.ts'
import { PAUSED_HELD } from './paused.ts'

/** The parts of a connection that holding needs. */
export interface Holding {
  readonly context: MqttContext
  readonly isClosed: boolean
  /** PUBLISHes that wait for the disk's alarm or a full queue to pass. */
  readonly held: HeldPublishes
  /** `liveMs` at which the peer is closed if they still wait. */
  heldUntilMs: number
  pause(why: number): void
  resume(why: number): void
  /** Handles one packet, as when it came. */
  retake(first: number, buffer: Buffer, start: number, end: number): void
  /** What its handling threw. */
  failed(error: unknown): void
}

/** Reads nothing more from the peer, and closes it after `forMs`. */
export function holdAll(connection: Holding, forMs: number): void {
  connection.heldUntilMs = connection.context.liveMs + forMs
  connection.pause(PAUSED_HELD)
}

/** Keeps a PUBLISH that the disk's alarm does not let in; closes the peer when that lasts. */
export function hold(
  connection: Holding,
  first: number,
  buffer: Buffer,
  start: number,
  end: number
): void {
  const { context, held } = connection
  const { limits } = context.broker
  if (held.count === 0) connection.heldUntilMs = context.liveMs + limits.alarmHoldMs
  held.add(first, buffer, start, end)
  if (held.bytes >= limits.alarmHoldBytes) connection.pause(PAUSED_HELD)
}

/** The alarm has passed: what is held is taken, in order. */
export function retryHeld(connection: Holding): void {
  const { held } = connection
  const { broker } = connection.context
  if (held.count === 0 || broker.refusal !== 0 || broker.journal.isCrowded) return
  const waiting = held.take()
  const untilMs = connection.heldUntilMs
  connection.heldUntilMs = 0
  connection.resume(PAUSED_HELD)
  try {
    for (const { first, body } of waiting) {
      if (connection.isClosed) return
      // What thousands hold must not come all at once.
      if (broker.journal.isCrowded) held.add(first, body, 0, body.length)
      else connection.retake(first, body, 0, body.length)
    }
    if (held.count > 0) connection.heldUntilMs = untilMs
  } catch (error) {
    connection.failed(error)
  }
}
