/** Writes the small records, in place or out of the broker's writer. */
import { PAIR_BYTES_MAX, writePair } from '../core/records/settle.ts'
import { AWAITED, type Urgency } from '../journal/journal.ts'
import type { Broker } from './broker.ts'

/** Appends what stands in `broker.writer` and empties it. Returns the ticket. */
export function append(broker: Broker, kind: number, urgency: Urgency): number {
  const { journal, writer } = broker
  const at = journal.begin(writer.length)
  writer.buffer.copy(journal.buffer, at, 0, writer.length)
  const ticket = journal.end(kind, at + writer.length, urgency)
  writer.reset()
  if (urgency === AWAITED) broker.definedTicket = ticket
  return ticket
}

/** A record of an id and a sequence. Returns the ticket. */
export function appendPair(
  broker: Broker,
  kind: number,
  id: number,
  sequence: number,
  urgency: Urgency
): number {
  const journal = broker.journal
  const at = journal.begin(PAIR_BYTES_MAX)
  return journal.end(kind, writePair(journal.buffer, at, id, sequence), urgency)
}
