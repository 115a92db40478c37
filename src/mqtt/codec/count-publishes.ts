/** Counts what was written, when it is to be known how much of it left. */
import { PUBLISH } from './packet-types.ts'
import type { Units } from '../../net/unsent.ts'

/** Adds to `units` the PUBLISHes in `chunk`, which begins with a packet, that end in it behind its first `sent` bytes. */
export function countPublishes(chunk: Buffer, sent: number, units: Units): void {
  for (let at = 0; at < chunk.length; ) {
    const first = chunk[at]!
    let length = 0
    let shift = 0
    let byte = 128
    for (at++; byte > 127 && at < chunk.length; at++, shift += 7) {
      byte = chunk[at]!
      length += (byte & 127) << shift
    }
    at += length
    // The payload of one that goes on behind the chunk is counted by itself.
    if (at > sent && at <= chunk.length && first >> 4 === PUBLISH) units[(first & 6) >> 1]!++
  }
}
