/** A connection without a socket: what the broker writes gathers until its peer looks at it. */
import { Duplex } from 'node:stream'

export class Wire extends Duplex {
  #inbox: Buffer[] = []
  /** The broker has ended it, or it was cut. */
  isEnded = false

  override _read(): void {
    // Bytes are pushed when the peer sends some.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    // The broker uses its buffers again.
    this.#inbox.push(Buffer.from(chunk))
    done()
  }

  override _final(done: () => void): void {
    this.isEnded = true
    this.push(null)
    done()
  }

  override _destroy(_error: Error | null, done: (error?: Error | null) => void): void {
    this.isEnded = true
    done()
  }

  /** Bytes to the broker. */
  send(...parts: readonly Buffer[]): void {
    if (!this.isEnded) this.push(parts.length === 1 ? parts[0] : Buffer.concat(parts))
  }

  /** What has come from the broker since the last call. */
  takeBytes(): Buffer {
    const bytes = this.#inbox.length === 1 ? this.#inbox[0]! : Buffer.concat(this.#inbox)
    this.#inbox = []
    return bytes
  }
}
