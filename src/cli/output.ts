/** Standard output of a command that prints much: gathered for a turn, and told when nobody reads it. */
import type { Writable } from 'node:stream'

export interface OutputOwner {
  /** Its reader is slow: nothing more is to be written until `onDrained`. */
  onFull(): void
  onDrained(): void
  /** Nobody reads it any more. */
  onBroken(): void
}

const GATHERED_BYTES_MAX = 256 * 1024

export class Output {
  private readonly stream: Writable
  private readonly owner: OutputOwner
  private chunks: Buffer[]
  private bytes: number
  private isFull: boolean

  constructor(stream: Writable, owner: OutputOwner) {
    this.stream = stream
    this.owner = owner
    this.chunks = []
    this.bytes = 0
    this.isFull = false
    stream.on('error', () => owner.onBroken())
    stream.on('drain', () => {
      if (!this.isFull) return
      this.isFull = false
      owner.onDrained()
    })
  }

  /** The bytes are copied. */
  write(bytes: Buffer): void {
    if (bytes.length === 0) return
    if (this.chunks.length === 0) setImmediate(() => this.flush())
    this.chunks.push(Buffer.from(bytes))
    this.bytes += bytes.length
    if (this.bytes > GATHERED_BYTES_MAX) this.flush()
  }

  /** Calls back when everything was taken. */
  end(done: () => void): void {
    this.flush()
    if (this.stream.writableLength === 0 || this.stream.destroyed) done()
    else this.stream.write('', () => done())
  }

  private flush(): void {
    if (this.chunks.length === 0) return
    const chunk = Buffer.concat(this.chunks)
    this.chunks = []
    this.bytes = 0
    if (this.stream.destroyed) return
    if (this.stream.write(chunk) || this.isFull) return
    this.isFull = true
    this.owner.onFull()
  }
}
