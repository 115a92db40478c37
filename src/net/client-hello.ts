/**
 * The first bytes of a TLS connection (RFC 8446 §5.1): they are gathered before there is any TLS state, which is forty
 * times larger. Who sends a part only, or something else, costs no more than what it sent.
 */

const HANDSHAKE_RECORD = 22
const HEADER_BYTES = 5
/** RFC 8446 §5.1: a record has at most 2^14 bytes. */
const RECORD_BYTES_MAX = 2 ** 14
/** Pieces that are kept apart: a client may send single bytes. */
const PIECES_MAX = 16

/** `wait`: more must come; `whole`: the first record is there; `other`: this is no TLS. */
export type HelloState = 'wait' | 'whole' | 'other'

export class ClientHello {
  bytes = 0
  #pieces: Buffer[] = []
  #needed = HEADER_BYTES

  push(piece: Buffer): HelloState {
    this.#pieces.push(piece)
    this.bytes += piece.length
    if (this.#pieces.length > PIECES_MAX) this.#pieces = [Buffer.concat(this.#pieces)]
    if (this.#pieces[0]![0] !== HANDSHAKE_RECORD) return 'other'
    if (this.bytes < HEADER_BYTES) return 'wait'
    if (this.#needed === HEADER_BYTES) {
      const header = this.#join()
      const length = header.readUInt16BE(3)
      // The version is 3.1 to 3.3 for old middleboxes' sake; SSLv2's hello begins otherwise.
      if (header[1] !== 3 || length === 0 || length > RECORD_BYTES_MAX) return 'other'
      this.#needed = HEADER_BYTES + length
    }
    return this.bytes < this.#needed ? 'wait' : 'whole'
  }

  /** Everything that came. */
  take(): Buffer {
    return this.#join()
  }

  #join(): Buffer {
    if (this.#pieces.length > 1) this.#pieces = [Buffer.concat(this.#pieces)]
    return this.#pieces[0] ?? Buffer.alloc(0)
  }
}
