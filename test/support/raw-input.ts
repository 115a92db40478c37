/** What a socket has received and nobody has taken yet. */
import type { Socket } from 'node:net'

/** A loaded machine may take its time. */
const TIMEOUT_MS = 25_000

export class RawInput {
  bytes: Buffer = Buffer.alloc(0)
  /** Set when the peer ended or reset the connection. */
  isClosed = false
  #wake: () => void = () => undefined

  constructor(socket: Socket) {
    socket.on('data', chunk => {
      this.bytes = Buffer.concat([this.bytes, chunk])
      this.#wake()
    })
    const end = (): void => {
      this.isClosed = true
      this.#wake()
    }
    socket.on('end', end)
    socket.on('close', end)
    // A reset ends it as an end does.
    socket.on('error', end)
  }

  take(count: number): Buffer {
    const taken = this.bytes.subarray(0, count)
    this.bytes = this.bytes.subarray(count)
    return taken
  }

  /** Until more has come, or the end. */
  async more(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    await new Promise<void>((resolve, reject) => {
      this.#wake = resolve
      timer = setTimeout(() => reject(new Error('nothing came')), TIMEOUT_MS)
    })
    clearTimeout(timer)
  }
}
