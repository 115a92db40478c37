/**
 * Draining: nobody new is taken, and who is connected is sent away, some at a time, so that the servers
 * they go to are not stormed (MQTT 5 §4.11). Version 5 is told where to; older ones are refused with
 * 0x03, or closed.
 */
import { REASON } from './reason-codes.ts'

export interface DrainOrder {
  /** Server Reference: space-separated servers; '' = none. */
  readonly reference: string
  /** For good: clients are not to come back (0x9D instead of 0x9C). */
  readonly isMoved: boolean
}

/** The parts of a connection that draining needs. */
export interface Drainable {
  readonly isClosed: boolean
  readonly isOpen: boolean
  close(text: string, reason: number, how: 'disconnect' | 'with-will' | 'lost'): void
}

export const DRAIN_STEP_MS = 100
/** Connections closed in a step. */
const DRAIN_STEP = 50

export function reasonOfDrain({ isMoved }: DrainOrder): number {
  return isMoved ? REASON.serverMoved : REASON.useAnotherServer
}

export function textOfDrain({ isMoved }: DrainOrder): string {
  return isMoved ? 'the server has moved' : 'use another server'
}

/** Sends the next ones away. */
export function drainStep(connections: Iterable<Drainable>, order: DrainOrder): void {
  let left = DRAIN_STEP
  for (const connection of connections) {
    if (!connection.isOpen || connection.isClosed) continue
    connection.close(textOfDrain(order), reasonOfDrain(order), 'lost')
    if (--left === 0) return
  }
}
