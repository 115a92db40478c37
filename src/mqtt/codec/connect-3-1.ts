/**
 * What a CONNECT of MQTT 3.1 may look like that one of 3.1.1 may not: the reserved flag means nothing, and the flags of
 * user name and password may be set without the fields being there (3.1 §3.1, for the versions before it).
 */
import { walkBinary, walkString } from './property-rules.ts'

const RESERVED = 0x01
const WILL = 0x04
const PASSWORD = 0x40
const USER_NAME = 0x80
/** The level, the flags and the keepalive. */
const FIXED_BYTES = 4

/** A copy of the body in which the flags say what is there. Throws a `ProtocolError`. */
export function mendConnect(buffer: Buffer, start: number, end: number): Buffer {
  const body = Buffer.from(buffer.subarray(start, end))
  const flagsAt = walkBinary(body, 0, body.length) + 1
  if (flagsAt + FIXED_BYTES - 1 > body.length) return body
  let flags = body[flagsAt]! & ~RESERVED
  let at = walkString(body, flagsAt + FIXED_BYTES - 1, body.length)
  if ((flags & WILL) !== 0) {
    at = walkString(body, at, body.length)
    at = walkBinary(body, at, body.length)
  }
  if ((flags & USER_NAME) !== 0) {
    if (at === body.length) flags &= ~(USER_NAME | PASSWORD)
    else at = walkString(body, at, body.length)
  }
  if ((flags & PASSWORD) !== 0 && at === body.length) flags &= ~PASSWORD
  body[flagsAt] = flags
  return body
}
