/**
 * Finds the frames (AMQP 0-9-1 §4.2.3) in what a socket reads, over any chunking. A frame that lies whole
 * in a chunk is handed over in place; only one that is cut is gathered in a buffer of its own, and no
 * buffer is larger than what arrived asks for. Sizes are checked as soon as the seven bytes of a frame's
 * head are there, before anything is gathered.
 */
import { AmqpError, REPLY } from '../reply-codes.ts'
import { FRAME_END, FRAME_HEAD_BYTES } from './methods.ts'

/** Answer of `onFrame`: not now. The same frame is handed over again by `resume`. */
export const HOLD = -1

export interface FrameHandler {
  /**
   * A frame with the payload `buffer[start..end)`. What lies in the buffer up to `limit` arrived with
   * it: the handler may take frames that follow. Returns the offset behind what it took (`end + 1` for
   * the one frame), or `HOLD`.
   */
  onFrame(
    type: number,
    channel: number,
    buffer: Buffer,
    start: number,
    end: number,
    limit: number
  ): number
}

const GATHER_BYTES_FIRST = 512
const EMPTY = Buffer.alloc(0)

export class FrameSplitter {
  /** Largest payload that is taken. */
  payloadBytesMax: number
  /** `HOLD` was answered: what arrives is kept until `resume`. */
  isHeld: boolean
  private gathered: Buffer
  private gatheredBytes: number

  constructor(payloadBytesMax: number) {
    this.payloadBytesMax = payloadBytesMax
    this.isHeld = false
    this.gathered = EMPTY
    this.gatheredBytes = 0
  }

  /** Bytes that arrived and were not yet handed over. */
  get pendingBytes(): number {
    return this.gatheredBytes
  }

  /** Throws 501 for a frame that is too large or does not end as it must; nothing may be fed after it. */
  feed(buffer: Buffer, start: number, end: number, handler: FrameHandler): void {
    if (this.isHeld) {
      this.gather(buffer, start, end)
      return
    }
    if (this.gatheredBytes > 0) {
      start = this.complete(buffer, start, end, handler)
      if (start === end) return
    }
    while (end - start >= FRAME_HEAD_BYTES) {
      const payloadEnd = this.payloadEnd(buffer, start)
      if (payloadEnd >= end) break
      const next = dispatch(buffer, start, payloadEnd, end, handler)
      if (next === HOLD) {
        this.isHeld = true
        break
      }
      start = next
    }
    if (start < end) this.gather(buffer, start, end)
  }

  /** Goes on after `HOLD`. */
  resume(handler: FrameHandler): void {
    if (!this.isHeld) return
    this.isHeld = false
    const buffer = this.gathered
    const bytes = this.gatheredBytes
    this.gathered = EMPTY
    this.gatheredBytes = 0
    this.feed(buffer, 0, bytes, handler)
  }

  /** Nothing more is wanted of what arrived. */
  discard(): void {
    this.gathered = EMPTY
    this.gatheredBytes = 0
  }

  /** Completes the frame whose first bytes are gathered; returns how far it took the chunk. */
  private complete(buffer: Buffer, start: number, end: number, handler: FrameHandler): number {
    if (this.gatheredBytes < FRAME_HEAD_BYTES) {
      const stop = Math.min(end, start + FRAME_HEAD_BYTES - this.gatheredBytes)
      this.gather(buffer, start, stop)
      start = stop
      if (this.gatheredBytes < FRAME_HEAD_BYTES) return start
    }
    const payloadEnd = this.payloadEnd(this.gathered, 0)
    const stop = Math.min(end, start + payloadEnd + 1 - this.gatheredBytes)
    this.gather(buffer, start, stop)
    if (this.gatheredBytes <= payloadEnd) return stop
    const next = dispatch(this.gathered, 0, payloadEnd, payloadEnd + 1, handler)
    if (next === HOLD) {
      this.isHeld = true
      this.gather(buffer, stop, end)
      return end
    }
    this.discard()
    return stop
  }

  private payloadEnd(buffer: Buffer, at: number): number {
    const bytes =
      buffer[at + 3]! * 16777216 +
      ((buffer[at + 4]! << 16) | (buffer[at + 5]! << 8) | buffer[at + 6]!)
    if (bytes > this.payloadBytesMax) {
      throw new AmqpError(
        REPLY.frameError,
        `frame of ${bytes} bytes, at most ${this.payloadBytesMax} are taken`
      )
    }
    return at + FRAME_HEAD_BYTES + bytes
  }

  private gather(buffer: Buffer, start: number, end: number): void {
    const bytes = this.gatheredBytes + end - start
    if (bytes > this.gathered.length) {
      const grown = Buffer.allocUnsafe(
        Math.max(bytes, GATHER_BYTES_FIRST, Math.min(this.gathered.length * 2, bytes * 2))
      )
      this.gathered.copy(grown, 0, 0, this.gatheredBytes)
      this.gathered = grown
    }
    buffer.copy(this.gathered, this.gatheredBytes, start, end)
    this.gatheredBytes = bytes
  }
}

function dispatch(
  buffer: Buffer,
  at: number,
  payloadEnd: number,
  limit: number,
  handler: FrameHandler
): number {
  if (buffer[payloadEnd] !== FRAME_END) {
    throw new AmqpError(REPLY.frameError, 'frame without its end marker')
  }
  const channel = (buffer[at + 1]! << 8) | buffer[at + 2]!
  return handler.onFrame(buffer[at]!, channel, buffer, at + FRAME_HEAD_BYTES, payloadEnd, limit)
}
