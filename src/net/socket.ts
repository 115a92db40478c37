/**
 * Sockets, once for all front-ends.
 *
 * Reading: every plain socket reads into one shared buffer (`onread`) instead of a fresh 64 KiB for
 * each read; the handler gets a view for the time of the call and copies what it wants to keep. The
 * accepted socket's handle is taken into a new `net.Socket`, because `onread` can only be given at
 * construction. Where there is no such handle (TLS, a WebSocket's stream) the ordinary 'data' events
 * bring the bytes.
 *
 * Writing: packets gather in the socket's own buffer; the first one in a turn puts the socket on the
 * dirty list, and one `setImmediate` callback, which runs when all sockets that were readable have been
 * read, writes each dirty socket once. The kernel nearly always takes everything at once: then the
 * buffer goes back to a pool, so that an idle socket holds none. While the kernel does not, bytes
 * gather further, up to `outputBytesMax` where `isStuck` tells the owner to stop. Answers cannot be
 * held back as deliveries can: who leaves them lying, up to `ANSWERS_FACTOR` times that, is not read
 * any more until it has taken them all.
 */
import type net from 'node:net'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { allocateBytes, copyBytes } from '../lib/bytes.ts'
import type { Remote } from './arrival.ts'
import { DirtyList } from './dirty-list.ts'
import { bytesTaken, type Internals } from './internals.ts'
import { type CountUnits, type Units, Unsent } from './unsent.ts'
import { WebSocketStream } from './web-socket-stream.ts'

/** What a connection gets from its socket. */
export interface SocketHandler {
  /** Bytes from the peer, `buffer[start..end)`: a view on a shared buffer, true for this call only. */
  onBytes(buffer: Buffer, start: number, end: number): void
  /** `isStuck` was true and is not any more. */
  onDrained(): void
  /** A WebSocket's peer sent more at once than may be, and is read no further: say so, then close. */
  onTooLarge?(reason: string): void
  /** The socket is gone, for whatever reason. Called exactly once, and last. */
  onClosed(): void
}

export interface SocketsOptions {
  /** Bytes waiting for a peer above which its socket is stuck. */
  readonly outputBytesMax: number
  /** A socket whose peer takes nothing for so long is destroyed, milliseconds. */
  readonly drainTimeoutMs: number
  /** How long `close` waits for the peer's end, milliseconds. */
  readonly closeGraceMs?: number
}

const READ_BYTES = 64 * 1024
const SMALL_BYTES = 4 * 1024
const LARGE_BYTES = 64 * 1024
const POOLED_SMALL_MAX = 512
const POOLED_LARGE_MAX = 48
const SWEEP_MS = 1_000
const KEEPALIVE_MS = 60_000
/** Times `outputBytesMax`: deliveries alone, the last one of them large, seldom come so far. */
const ANSWERS_FACTOR = 4
const EMPTY = Buffer.alloc(0)

/** What all sockets of a process share: read buffer, dirty list, buffer pool, the watch for stuck peers. */
export class Sockets {
  readonly outputBytesMax: number
  readonly drainTimeoutMs: number
  readonly closeGraceMs: number
  bytesIn: number
  bytesOut: number
  /** Buffered for all peers before their login. */
  preLoginBytes: number
  /** Sockets destroyed because their peer took nothing for `drainTimeoutMs`. */
  stuckCount: number
  /**
   * Rises whenever an output buffer is given back: while it stands, bytes that were written into any
   * socket's buffer are still there, to be copied for the next receiver.
   */
  recycled: number
  readonly readBuffer: Buffer
  readonly dirty: DirtyList
  private readonly small: Buffer[]
  private readonly large: Buffer[]
  private readonly blocked: Set<PeerSocket>
  private sweepTimer: NodeJS.Timeout | null
  private sweptAt: number

  constructor(options: SocketsOptions) {
    this.outputBytesMax = options.outputBytesMax
    this.drainTimeoutMs = options.drainTimeoutMs
    this.closeGraceMs = options.closeGraceMs ?? 1_000
    this.bytesIn = 0
    this.bytesOut = 0
    this.preLoginBytes = 0
    this.stuckCount = 0
    this.recycled = 0
    this.readBuffer = allocateBytes(READ_BYTES)
    this.dirty = new DirtyList()
    this.small = []
    this.large = []
    this.blocked = new Set()
    this.sweepTimer = null
    this.sweptAt = 0
  }

  /** A buffer of at least `bytes`. */
  take(bytes: number): Buffer {
    if (bytes <= SMALL_BYTES) return this.small.pop() ?? allocateBytes(SMALL_BYTES)
    if (bytes <= LARGE_BYTES) return this.large.pop() ?? allocateBytes(LARGE_BYTES)
    return allocateBytes(bytes)
  }

  giveBack(buffer: Buffer): void {
    this.recycled++
    if (buffer.length === SMALL_BYTES) {
      if (this.small.length < POOLED_SMALL_MAX) this.small.push(buffer)
    } else if (buffer.length === LARGE_BYTES) {
      if (this.large.length < POOLED_LARGE_MAX) this.large.push(buffer)
    }
  }

  watch(socket: PeerSocket): void {
    this.blocked.add(socket)
    if (this.sweepTimer !== null) return
    this.sweptAt = performance.now()
    this.sweepTimer = setInterval(() => this.sweep(), SWEEP_MS)
    this.sweepTimer.unref()
  }

  unwatch(socket: PeerSocket): void {
    if (!this.blocked.delete(socket) || this.blocked.size > 0 || this.sweepTimer === null) return
    clearInterval(this.sweepTimer)
    this.sweepTimer = null
  }

  private sweep(): void {
    const now = performance.now()
    // A stall of our own loop is no fault of the peers: at most two periods count.
    const elapsed = Math.min(now - this.sweptAt, 2 * SWEEP_MS)
    this.sweptAt = now
    for (const socket of this.blocked) {
      if (socket.checkProgress(elapsed) < this.drainTimeoutMs) continue
      this.stuckCount++
      socket.destroy()
    }
  }
}

/** One peer's socket. */
export class PeerSocket {
  /** The peer, `address:port`; `unix` for a Unix domain socket. */
  readonly peer: string
  /** The same without its port; '' for a Unix domain socket. */
  readonly address: string
  bytesIn: number
  bytesOut: number
  /** The output buffer: `reserve` says where to write in it. Another one after each call of ours. */
  buffer: Buffer
  /** Bytes of `buffer` in use. */
  end: number
  /** Messages that end in `buffer`, by QoS: who writes one adds it behind it. */
  units: Units
  /** Why it was closed by us; '' otherwise. */
  closeReason: string
  /** `close` or `destroy` was called, or the peer is gone: what is written now goes nowhere. */
  isClosed: boolean
  private readonly sockets: Sockets
  private readonly stream: Duplex
  private readonly handler: SocketHandler
  private isDirty: boolean
  private wantsDrain: boolean
  private isBlocked: boolean
  private isGone: boolean
  /** Its owner wants nothing read. */
  private isPaused: boolean
  private isChoked: boolean
  private unsent: Unsent | null
  private isAdopted: boolean
  private progressMark: number
  private stalledMs: number
  private graceTimer: NodeJS.Timeout | null
  private readonly onWritten: (error?: Error | null) => void

  /**
   * `accepted` comes from a server with `pauseOnConnect` (plain sockets), from a TLS server, or is any
   * duplex stream of bytes (`peer` then names the far end). Reading starts at the next turn.
   */
  constructor(
    accepted: net.Socket | Duplex,
    handler: SocketHandler,
    sockets: Sockets,
    peer?: Remote | null
  ) {
    const plain = accepted as net.Socket
    const address = peer?.address ?? plain.remoteAddress ?? ''
    const port = peer?.port ?? plain.remotePort ?? 0
    this.address = address
    this.peer = address === '' ? 'unix' : `${address}:${port}`
    this.bytesIn = 0
    this.bytesOut = 0
    this.buffer = EMPTY
    this.end = 0
    this.units = [0, 0, 0]
    this.closeReason = ''
    this.isClosed = false
    this.sockets = sockets
    this.handler = handler
    this.isDirty = false
    this.wantsDrain = false
    this.isBlocked = false
    this.isGone = false
    this.isPaused = false
    this.isChoked = false
    this.unsent = null
    this.isAdopted = false
    this.progressMark = 0
    this.stalledMs = 0
    this.graceTimer = null
    this.onWritten = error => this.written(error)
    this.stream = this.open(accepted)
  }

  /** Bytes that wait for the peer: in our buffer and handed to Node but not to the kernel. */
  get pendingBytes(): number {
    return this.end + this.stream.writableLength
  }

  /** More than `outputBytesMax` waits for the peer: write no more until `onDrained`. */
  get isStuck(): boolean {
    if (!this.isBlocked && this.end < this.sockets.outputBytesMax) return false
    if (this.pendingBytes < this.sockets.outputBytesMax) return false
    this.wantsDrain = true
    return true
  }

  /** The peer takes no answers, so it is not read: its silence says nothing. */
  get isUnread(): boolean {
    return this.isChoked
  }

  /** From `onClosed` on: how many `units` never reached the kernel. */
  lostUnits(partly: CountUnits | null): Units {
    const lost: Units = [...this.units]
    this.unsent?.addTo(lost, partly)
    return lost
  }

  /** Room for `bytes` bytes in `buffer`, to be filled by the caller at once; returns their offset. */
  reserve(bytes: number): number {
    const at = this.end
    if (at + bytes > this.buffer.length || this.isClosed) return this.reserveSlow(bytes)
    this.end = at + bytes
    if (!this.isDirty) {
      this.isDirty = true
      this.sockets.dirty.push(this)
    }
    return at
  }

  /** Copies `source[start..end)` into the output. */
  write(source: Buffer, start: number, end: number): void {
    const at = this.reserve(end - start)
    copyBytes(source, start, end, this.buffer, at)
  }

  /** Writes a buffer that nobody changes any more, without a copy: the large payload that ends a message. */
  writeShared(bytes: Buffer, qos: number): void {
    if (this.isClosed) return
    this.send()
    this.units[qos]!++
    this.push(bytes, true)
  }

  /** Writes what has gathered, unless the kernel is still busy with what it got before. */
  flush(): void {
    this.isDirty = false
    if (this.end === 0 || this.isClosed || this.isBlocked) return
    this.send()
    if (this.wantsDrain) this.drained()
  }

  pauseReading(): void {
    this.isPaused = true
    if (!this.isClosed) this.stream.pause()
  }

  resumeReading(): void {
    this.isPaused = false
    if (!this.isClosed && !this.isChoked) this.stream.resume()
  }

  /** Sends what has gathered, then ends; what the peer still sends is thrown away. Idempotent. */
  close(reason: string): void {
    if (this.isClosed) return
    this.send()
    this.markClosed(reason)
    this.stream.end()
    // Reading on until the peer ends lets our last packet arrive: unread input would make it a reset.
    this.stream.resume()
    this.graceTimer = setTimeout(() => this.destroy(), this.sockets.closeGraceMs)
    this.graceTimer.unref()
  }

  /** Drops the socket with all that waits. Idempotent. */
  destroy(): void {
    this.markClosed(this.closeReason)
    const { _handle: handle } = this.stream as unknown as Internals
    // Behind TLS it counts other bytes.
    if (this.isAdopted && handle !== null) this.unsent?.noteHandle(handle)
    else if (this.stream instanceof WebSocketStream) this.unsent?.noteBytes(this.stream.sentBytes)
    this.stream.destroy()
  }

  /** The peer has logged in: what it sends is bounded by what packets may be. */
  loggedIn(): void {
    if (this.stream instanceof WebSocketStream) this.stream.loggedIn()
  }

  /** Milliseconds without any progress; `elapsedMs` since the last call. For `Sockets`. */
  checkProgress(elapsedMs: number): number {
    const { stream } = this
    const { _handle: handle } = stream as unknown as Internals
    const isWebSocket = stream instanceof WebSocketStream
    const mark = isWebSocket
      ? stream.sentBytes
      : bytesTaken(handle, this.bytesOut, stream.writableLength)
    if (mark === this.progressMark) this.stalledMs += elapsedMs
    else this.stalledMs = 0
    this.progressMark = mark
    return this.stalledMs
  }

  private open(accepted: net.Socket | Duplex): Duplex {
    const inner = accepted as unknown as Internals
    this.isAdopted = !('encrypted' in accepted) && inner._handle?.useUserBuffer !== undefined
    let stream: Duplex = accepted
    let early: Buffer | null = null
    if (this.isAdopted) {
      const handle = inner._handle
      inner._handle = null
      // What came behind a PROXY header.
      if (accepted.readableLength > 0) early = accepted.read()
      const adopted = new Socket({
        handle,
        manualStart: true,
        allowHalfOpen: true,
        onread: {
          buffer: this.sockets.readBuffer,
          callback: (count: number, buffer: Buffer) => this.read(buffer, count)
        }
      } as net.SocketConstructorOpts)
      // The server counts its sockets through these.
      const own = adopted as unknown as Internals
      own._server = inner._server
      own.server = inner.server
      stream = adopted
    } else {
      stream.on('data', (chunk: Buffer) => this.read(chunk, chunk.length))
    }
    if (stream instanceof Socket) {
      stream.setNoDelay(true)
      stream.setKeepAlive(true, KEEPALIVE_MS)
    }
    // An error is always followed by 'close': nothing else is to be done about it.
    stream.on('error', () => this.markClosed(this.closeReason))
    stream.on('end', () => this.ended())
    stream.on('close', () => this.closed())
    if (early === null) stream.resume()
    else setImmediate(() => this.begin(early))
    return stream
  }

  /** Reads what had been read when the socket was handed over, then the rest. */
  private begin(early: Buffer): void {
    if (this.isGone) return
    this.read(early, early.length)
    if (!this.isPaused && !this.isChoked) this.stream.resume()
  }

  private read(buffer: Buffer, count: number): boolean {
    this.bytesIn += count
    this.sockets.bytesIn += count
    if (this.isClosed) return true
    this.handler.onBytes(buffer, 0, count)
    if (this.isBlocked) this.choke()
    return true
  }

  /** Reads no further questions from a peer that takes no answers. */
  private choke(): void {
    if (this.isClosed || this.isChoked) return
    if (this.pendingBytes < ANSWERS_FACTOR * this.sockets.outputBytesMax) return
    this.isChoked = true
    this.stream.pause()
  }

  private reserveSlow(bytes: number): number {
    if (this.isClosed) {
      // Nobody will see it; the caller needs a place all the same.
      if (this.buffer.length < bytes) this.buffer = allocateBytes(bytes)
      return 0
    }
    const needed = this.end + bytes
    if (needed <= LARGE_BYTES) {
      const old = this.buffer
      this.buffer = this.sockets.take(needed)
      old.copy(this.buffer, 0, 0, this.end)
      if (old.length > 0) this.sockets.giveBack(old)
    } else {
      this.send()
      this.buffer = this.sockets.take(Math.max(bytes, LARGE_BYTES))
    }
    const at = this.end
    this.end = at + bytes
    if (!this.isDirty) {
      this.isDirty = true
      this.sockets.dirty.push(this)
    }
    return at
  }

  /** Hands the output buffer to Node, and the buffer to the pool if the kernel took it all. */
  private send(): void {
    const bytes = this.end
    if (bytes === 0) return
    const buffer = this.buffer
    this.buffer = EMPTY
    this.end = 0
    this.push(buffer.subarray(0, bytes), false)
    if (!this.isBlocked) this.sockets.giveBack(buffer)
  }

  private push(chunk: Buffer, isPart: boolean): void {
    const start = this.bytesOut
    this.bytesOut += chunk.length
    this.sockets.bytesOut += chunk.length
    this.stream.write(chunk, this.onWritten)
    if (this.stream.writableLength === 0) {
      this.units[0] = this.units[1] = this.units[2] = 0
      return
    }
    this.unsent ??= new Unsent()
    this.unsent.add(chunk, start, this.units, isPart)
    this.units = [0, 0, 0]
    if (this.isBlocked) return
    this.isBlocked = true
    this.stalledMs = 0
    this.progressMark = -1
    this.sockets.watch(this)
  }

  private written(error?: Error | null): void {
    // After `destroy` the callbacks of what was never written come too: those units are lost.
    if (!this.isBlocked || this.stream.destroyed || (error ?? null) !== null) return
    this.unsent?.taken(this.bytesOut - this.stream.writableLength)
    if (this.stream.writableLength > 0) return
    this.isBlocked = false
    this.unsent = null
    this.sockets.unwatch(this)
    if (this.isClosed) return
    if (this.end > 0) this.send()
    if (this.isChoked) {
      this.isChoked = false
      if (!this.isPaused) this.stream.resume()
    }
    if (this.wantsDrain) this.drained()
  }

  private drained(): void {
    if (this.isClosed || this.pendingBytes >= this.sockets.outputBytesMax) return
    this.wantsDrain = false
    this.handler.onDrained()
  }

  /** The peer has sent its last byte: it may still read our answers to what came before. */
  private ended(): void {
    if (this.isClosed) return
    const { stream } = this
    const reason = stream instanceof WebSocketStream ? stream.endReason : ''
    if (stream instanceof WebSocketStream && stream.isTooLarge) this.handler.onTooLarge?.(reason)
    this.send()
    this.markClosed(reason)
    stream.end()
  }

  private markClosed(reason: string): void {
    if (this.isClosed) return
    this.isClosed = true
    this.closeReason = reason
  }

  private closed(): void {
    if (this.isGone) return
    this.isGone = true
    this.markClosed('')
    this.sockets.unwatch(this)
    if (this.graceTimer !== null) clearTimeout(this.graceTimer)
    this.buffer = EMPTY
    this.end = 0
    this.handler.onClosed()
  }
}
