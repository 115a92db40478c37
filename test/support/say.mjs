/** Writes to standard output before it returns: what was said is known even if the process is killed in the next moment. */
import { writeSync } from 'node:fs'

export function say(text) {
  let bytes = Buffer.from(text)
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes))
    } catch (error) {
      // The pipe is full and Node has made it non-blocking: its reader is slow.
      if (error.code !== 'EAGAIN') throw error
    }
  }
}
