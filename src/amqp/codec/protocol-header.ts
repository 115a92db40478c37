/** The eight bytes before the first frame (AMQP 0-9-1 §4.2.2). */

/** The header that we speak, and the answer to any other one. */
export const PROTOCOL_HEADER = Buffer.from('AMQP\0\0\x09\x01', 'latin1')
/** 0-9, which differs in nothing that clients use. */
const OLDER_HEADER = Buffer.from('AMQP\x01\x01\0\x09', 'latin1')
const HEADERS = [PROTOCOL_HEADER, OLDER_HEADER]

export class ProtocolHeader {
  /** Bytes that have arrived. */
  count: number
  /** Some byte is not as in any header that we know. */
  isForeign: boolean
  private readonly bytes: Buffer

  constructor() {
    this.count = 0
    this.isForeign = false
    this.bytes = Buffer.alloc(PROTOCOL_HEADER.length)
  }

  get isComplete(): boolean {
    return this.count === PROTOCOL_HEADER.length && !this.isForeign
  }

  /** Reads byte by byte, so that a stranger is known at its first one. Returns how far it read. */
  read(buffer: Buffer, start: number, end: number): number {
    while (start < end && this.count < PROTOCOL_HEADER.length && !this.isForeign) {
      this.bytes[this.count++] = buffer[start++]!
      const count = this.count
      this.isForeign = !HEADERS.some(known => known.compare(this.bytes, 0, count, 0, count) === 0)
    }
    return start
  }
}
