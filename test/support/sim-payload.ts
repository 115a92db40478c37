/** Reads a message out of the journal of a simulated broker, from memory or from the disk. */
import { Message } from '../../src/core/message.ts'
import { readMessage } from '../../src/core/records/message.ts'
import type { Journal } from '../../src/journal/journal.ts'
import type { SimBroker } from './sim-broker.ts'
import { turns } from './sim-disk-store.ts'

const TURNS_MAX = 500

/** Null: the record was moved while its block was read, or the power went. */
export async function payloadAt(
  sim: SimBroker,
  segment: number,
  offset: number
): Promise<Buffer | null> {
  const { disk, journal } = sim
  if (journal.view(segment, offset)) return viewed(journal)
  let isLoaded = false
  let payload: Buffer | null = null
  const onBlock = () => {
    isLoaded = true
    if (journal.view(segment, offset)) payload = viewed(journal)
  }
  journal.load(segment, offset, { onBlock })
  for (let i = 0; !isLoaded && !disk.isOff && i < TURNS_MAX; i++) await turns(1)
  return payload
}

function viewed(journal: Journal): Buffer {
  const { viewBuffer, viewStart, viewEnd } = journal
  const message = new Message()
  readMessage(viewBuffer, viewStart, viewEnd, message)
  return Buffer.from(message.source.subarray(message.payloadStart, message.payloadEnd))
}
