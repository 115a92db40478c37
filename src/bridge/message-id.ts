/**
 * Every message carries an identifier that never changes: the store's name, the number of the queue that the bridge
 * reads (numbers of queues are never used twice), and the message's sequence in it. All three last, so whoever sees
 * the three again sees the same message again: over a lost link, a restart, and the end of either side.
 */
import type { MessageProperties } from '../core/properties.ts'

export const ORIGIN_HEADER = 'x-motemq-origin'
export const EPOCH_HEADER = 'x-motemq-epoch'
export const SEQUENCE_HEADER = 'x-motemq-sequence'
const OURS: ReadonlySet<string> = new Set([ORIGIN_HEADER, EPOCH_HEADER, SEQUENCE_HEADER])

export interface MessageId {
  readonly origin: string
  readonly epoch: number
  readonly sequence: number
}

export function idText({ origin, epoch, sequence }: MessageId): string {
  return `${origin}-${epoch}-${sequence}`
}

/** Puts it into the headers, in place of what a publisher may have written there, and into an empty message id. */
export function writeId(properties: MessageProperties, id: MessageId): void {
  const { headers } = properties
  if (headers.some(([name]) => OURS.has(name))) {
    properties.headers = headers.filter(([name]) => !OURS.has(name))
  }
  properties.headers.push(
    [ORIGIN_HEADER, { type: 'S', value: id.origin }],
    [EPOCH_HEADER, { type: 'l', value: BigInt(id.epoch) }],
    [SEQUENCE_HEADER, { type: 'l', value: BigInt(id.sequence) }]
  )
  properties.messageId ??= idText(id)
}
