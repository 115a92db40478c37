/**
 * A peer without a socket: a stream as `PeerSocket` uses one, whose bytes arrive when a test says so. They come
 * in one buffer that all reads share, as they do from the kernel, with junk behind them; when the read is over they are
 * written over, so that nobody can have kept a view.
 */
import type { Duplex } from 'node:stream'
import type { PeerSocket } from '../../src/net/socket.ts'

const READ_BYTES = 64 * 1024
const JUNK = 0xee
const FEW_BYTES = 32
const shared = Buffer.alloc(READ_BYTES, JUNK)

type Listener = (...args: never[]) => void

export class FuzzPeer {
  /** As a stream: bytes that were written and not taken. */
  writableLength = 0
  destroyed = false
  /** The broker has ended its side, or dropped the stream. */
  isEnded = false
  /** Bytes were written after the end. */
  wroteLate = false
  socket: PeerSocket | null = null
  readonly output: Buffer[] = []
  outputBytes = 0
  #isPaused = true
  #isStalled = false
  #stalled: (() => void)[] = []
  /** What is on its way: the bytes, and where each read of them ends. */
  #inbox: { readonly bytes: Buffer; readonly ends: readonly number[]; next: number; at: number }[] =
    []
  #hasHungUp = false
  #isEndTold = false
  #isCloseTold = false
  readonly #listeners = new Map<string, Listener>()

  /** For `PeerSocket`. */
  get stream(): Duplex {
    return this as unknown as Duplex
  }

  on(event: string, listener: Listener): this {
    this.#listeners.set(event, listener)
    return this
  }

  resume(): this {
    this.#isPaused = false
    return this
  }

  pause(): this {
    this.#isPaused = true
    return this
  }

  write(chunk: Buffer, done: () => void): boolean {
    if (this.isEnded) {
      this.wroteLate = true
      return false
    }
    // The broker uses its buffers again.
    this.output.push(Buffer.from(chunk))
    this.outputBytes += chunk.length
    if (this.#isStalled) {
      this.writableLength += chunk.length
      this.#stalled.push(done)
    } else done()
    return true
  }

  end(): this {
    this.isEnded = true
    return this
  }

  destroy(): this {
    this.isEnded = true
    this.destroyed = true
    return this
  }

  // The test's side

  /** Nobody listens any more. */
  get isGone(): boolean {
    return this.#isCloseTold
  }

  /** Bytes that arrive in reads which end at `ends`, rising, the last of them at the end of the bytes. */
  send(bytes: Buffer, ends: readonly number[] = [bytes.length]): void {
    if (bytes.length > 0) this.#inbox.push({ bytes, ends, next: 0, at: 0 })
  }

  /** Takes nothing of what the broker writes, until `drain`. */
  stall(): void {
    this.#isStalled = true
  }

  drain(): void {
    this.#isStalled = false
    this.writableLength = 0
    const waiting = this.#stalled
    this.#stalled = []
    for (const done of waiting) done()
  }

  /** Sends nothing any more. */
  hangUp(): void {
    this.#hasHungUp = true
  }

  /** The connection is cut. */
  cut(): void {
    this.#inbox = []
    this.destroy()
  }

  /** Hands over what the broker wants to read, and tells it of the end. False: nothing was left to do. */
  pump(): boolean {
    let didSome = false
    while (this.#inbox.length > 0 && !this.#isPaused && !this.destroyed) {
      didSome = true
      const first = this.#inbox[0]!
      const end = first.ends[first.next++]!
      if (end === first.bytes.length) this.#inbox.shift()
      this.#read(first.bytes, first.at, end)
      first.at = end
    }
    if (this.#hasHungUp && this.#inbox.length === 0 && !this.#isPaused && !this.#isEndTold) {
      didSome = true
      this.#isEndTold = true
      this.#emit('end')
    }
    // Both sides have ended, or one of them dropped it.
    const isOver = this.destroyed || (this.isEnded && this.#isEndTold && this.writableLength === 0)
    if (isOver && !this.#isCloseTold) {
      didSome = true
      this.destroyed = true
      this.isEnded = true
      this.#isCloseTold = true
      this.#emit('close')
    }
    return didSome
  }

  #read(bytes: Buffer, start: number, end: number): void {
    for (let at = start; at < end; at += READ_BYTES) {
      const count = Math.min(READ_BYTES, end - at)
      // For a few bytes loops cost less than calls.
      if (count < FEW_BYTES) for (let i = 0; i < count; i++) shared[i] = bytes[at + i]!
      else bytes.copy(shared, 0, at, at + count)
      this.socket!['read'](shared, count)
      if (count < FEW_BYTES) for (let i = 0; i < count; i++) shared[i] = JUNK
      else shared.fill(JUNK, 0, count)
    }
  }

  #emit(event: string): void {
    ;(this.#listeners.get(event) as (() => void) | undefined)?.()
  }
}
