/**
 * Content: what follows a basic.publish, one header frame and bodies (AMQP 0-9-1 §4.2.6).
 *
 * Nearly always all of it lies behind the method in one read: `findContent` finds it there, and the message
 * is a view on the socket's read buffer. Otherwise a `ContentAssembler` gathers key, properties and payload, in
 * this order, in a buffer that grows with what arrives, never beyond what the header announced.
 */
import { AmqpError, expectedMethod, REPLY } from '../reply-codes.ts'
import { syntaxError } from './field-table.ts'
import { FRAME_BODY, FRAME_END, FRAME_HEAD_BYTES, FRAME_HEADER } from './methods.ts'

const CLASS_BASIC = 60
const CLASS_AND_WEIGHT = CLASS_BASIC * 65536
/** Class, weight, body size before the property flags. */
const HEADER_FIXED_BYTES = 12
/** The hard bound of a content's size, beyond which the peer is taken for broken: 512 MiB. */
const BODY_BYTES_HARD_MAX = 512 * 1024 * 1024
const GATHER_BYTES_FIRST = 64 * 1024
/** A larger buffer is given back with its message; up to it no room is asked for. */
const KEPT_BYTES_MAX = 4 * 1024
const TWO_32 = 4294967296
const EMPTY = Buffer.alloc(0)

/** Where `findContent` found the parts; one object for all, true until its next call. */
export const found = {
  propertiesStart: 0,
  propertiesEnd: 0,
  payloadStart: 0,
  payloadEnd: 0,
  /** Behind the last frame. */
  next: 0
}

/**
 * Looks for the whole content of `channel` at `buffer[at..limit)`: a header and at most one body. False:
 * it is not all there, or not as it must be: then the frames are taken one by one.
 */
export function findContent(
  buffer: Buffer,
  at: number,
  limit: number,
  channel: number,
  payloadBytesMax: number,
  bodyBytesMax: number
): boolean {
  if (at + FRAME_HEAD_BYTES + HEADER_FIXED_BYTES + 2 >= limit) return false
  if (buffer[at] !== FRAME_HEADER || u16(buffer, at + 1) !== channel) return false
  const headerBytes = u32(buffer, at + 3)
  const start = at + FRAME_HEAD_BYTES
  const end = start + headerBytes
  if (headerBytes < HEADER_FIXED_BYTES + 2 || headerBytes > payloadBytesMax) return false
  if (end >= limit || buffer[end] !== FRAME_END) return false
  // Class and weight in one.
  if (u32(buffer, start) !== CLASS_AND_WEIGHT || u32(buffer, start + 4) !== 0) return false
  const bytes = u32(buffer, start + 8)
  if (bytes > payloadBytesMax || bytes > bodyBytesMax) return false
  found.propertiesStart = start + HEADER_FIXED_BYTES
  found.propertiesEnd = end
  found.payloadStart = end
  found.payloadEnd = end
  found.next = end + 1
  if (bytes === 0) return true
  const body = end + 1
  const bodyEnd = body + FRAME_HEAD_BYTES + bytes
  if (bodyEnd >= limit || buffer[bodyEnd] !== FRAME_END) return false
  if (buffer[body] !== FRAME_BODY || u16(buffer, body + 1) !== channel) return false
  if (u32(buffer, body + 3) !== bytes) return false
  found.payloadStart = body + FRAME_HEAD_BYTES
  found.payloadEnd = bodyEnd
  found.next = bodyEnd + 1
  return true
}

/** What the next frame of a channel must be. */
const AWAIT_METHOD = 0
const AWAIT_HEADER = 1
const AWAIT_BODY = 2

/** Where it asks for the memory that it holds; `take` throws when there is no more. */
export interface ContentRoom {
  take(bytes: number): void
  give(bytes: number): void
}

/** Gathers the content of one channel, frame by frame. */
export class ContentAssembler {
  exchange: string
  key: string
  isMandatory: boolean
  /** Key, properties, payload, one behind the other. */
  buffer: Buffer
  keyEnd: number
  propertiesEnd: number
  /** Behind the payload that has arrived. */
  end: number
  /** What the header announced. */
  bodyBytes: number
  private state: number
  /** Null: nobody counts what it holds. */
  readonly #room: ContentRoom | null

  constructor(room: ContentRoom | null) {
    this.#room = room
    this.exchange = ''
    this.key = ''
    this.isMandatory = false
    this.buffer = EMPTY
    this.keyEnd = 0
    this.propertiesEnd = 0
    this.end = 0
    this.bodyBytes = 0
    this.state = AWAIT_METHOD
  }

  /** A publish has begun: the next frame may not be a method. */
  get isOpen(): boolean {
    return this.state !== AWAIT_METHOD
  }

  /** A publish whose key is `source[start..end)`; header and bodies come with later frames. */
  open(
    exchange: string,
    key: string,
    isMandatory: boolean,
    source: Buffer,
    start: number,
    end: number
  ): void {
    this.exchange = exchange
    this.key = key
    this.isMandatory = isMandatory
    this.end = 0
    this.bodyBytes = 0
    this.state = AWAIT_HEADER
    this.append(source, start, end)
    this.keyEnd = this.end
  }

  /**
   * A content header. True when the content is complete with it. Throws 505 when none is expected, 501
   * for an impossible size, 502 when it is malformed, 406 when the body is larger than `bodyBytesMax`.
   */
  onHeader(buffer: Buffer, start: number, end: number, bodyBytesMax: number): boolean {
    if (this.state !== AWAIT_HEADER) throw this.unexpected()
    if (end - start < HEADER_FIXED_BYTES + 2) throw syntaxError('content header cut short')
    const classId = u16(buffer, start)
    if (classId !== CLASS_BASIC) throw wrongHeader(`one for class ${classId}`)
    // It is "unused and must be zero" (§4.2.6.1).
    if (u16(buffer, start + 2) !== 0) throw wrongHeader('non content header frame')
    const bytes = u32(buffer, start + 4) * TWO_32 + u32(buffer, start + 8)
    if (bytes > BODY_BYTES_HARD_MAX) {
      throw new AmqpError(REPLY.frameError, `content of ${bytes} bytes`)
    }
    if (bytes > bodyBytesMax) {
      throw new AmqpError(
        REPLY.preconditionFailed,
        `message size ${bytes} is larger than configured max size ${bodyBytesMax}`
      )
    }
    this.append(buffer, start + HEADER_FIXED_BYTES, end)
    this.propertiesEnd = this.end
    this.bodyBytes = bytes
    this.state = bytes === 0 ? AWAIT_METHOD : AWAIT_BODY
    return bytes === 0
  }

  /** A body. True when the content is complete with it. Throws 505 or, for too many bytes, 501. */
  onBody(buffer: Buffer, start: number, end: number): boolean {
    if (this.state !== AWAIT_BODY) throw this.unexpected()
    const missing = this.propertiesEnd + this.bodyBytes - this.end
    if (end - start > missing) {
      throw new AmqpError(REPLY.frameError, 'content body longer than its header announced')
    }
    this.append(buffer, start, end)
    if (end - start < missing) return false
    this.state = AWAIT_METHOD
    return true
  }

  /** What is said to any frame but the one that has to come. */
  unexpected(): AmqpError {
    if (this.state === AWAIT_METHOD) return expectedMethod()
    if (this.state === AWAIT_HEADER) return wrongHeader('non content header frame')
    const explanation = 'expected content body, got non content body frame instead'
    return new AmqpError(REPLY.unexpectedFrame, explanation)
  }

  /** Gives the buffer back: the message was taken, or the channel closes. */
  reset(): void {
    this.state = AWAIT_METHOD
    this.end = 0
    const bytes = this.buffer.length
    if (bytes <= KEPT_BYTES_MAX) return
    this.buffer = EMPTY
    this.#room?.give(bytes)
  }

  private append(source: Buffer, start: number, end: number): void {
    const needed = this.end + end - start
    if (needed > this.buffer.length) this.grow(needed)
    source.copy(this.buffer, this.end, start, end)
    this.end = needed
  }

  #take(bytes: number): void {
    const held = this.buffer.length
    this.#room?.take(held > KEPT_BYTES_MAX ? bytes - held : bytes)
  }

  private grow(needed: number): void {
    const whole = this.state === AWAIT_BODY ? this.propertiesEnd + this.bodyBytes : needed
    const bytes = Math.max(needed, Math.min(whole, Math.max(GATHER_BYTES_FIRST, needed * 2)))
    if (bytes > KEPT_BYTES_MAX) this.#take(bytes)
    const grown = Buffer.allocUnsafe(bytes)
    this.buffer.copy(grown, 0, 0, this.end)
    this.buffer = grown
  }
}

function wrongHeader(got: string): AmqpError {
  const expected = `expected content header for class ${CLASS_BASIC}`
  return new AmqpError(REPLY.unexpectedFrame, `${expected}, got ${got} instead`)
}

function u16(buffer: Buffer, at: number): number {
  return (buffer[at]! << 8) | buffer[at + 1]!
}

function u32(buffer: Buffer, at: number): number {
  return (
    buffer[at]! * 16777216 + ((buffer[at + 1]! << 16) | (buffer[at + 2]! << 8) | buffer[at + 3]!)
  )
}
