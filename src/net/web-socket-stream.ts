/**
 * A WebSocket as a stream of bytes: what its binary messages hold, one behind the other, however they are cut
 * [MQTT-6.0.0-2]; each write is one binary message. A write is over when the kernel has taken it, so that what waits
 * here is what the peer has not got, and a text message closes it with 1003 [MQTT-6.0.0-1].
 *
 * Until the peer has logged in, what it sends without ending a message is counted, since `ws` keeps it.
 */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { RawData, WebSocket } from 'ws'

/** `WebSocket.OPEN` and `CLOSED`, without the module. */
const OPEN = 1
const CLOSED = 3
const NORMAL = 1000
const GOING_AWAY = 1001
const UNSUPPORTED_DATA = 1003
const POLICY_VIOLATION = 1008
export const TOO_BIG = 1009
/** Node reads so much at once. */
const READ_BYTES = 65_536
/** What a chunk costs beside its bytes. */
const CHUNK_BYTES = 256
const BINARY = { binary: true, compress: false } as const

/** What closes only when it is told to, but for a peer that breaks the protocol of WebSockets. */
export interface PatientWebSocket extends WebSocket {
  /** A message is too large; nothing more is read, and the close is still to come. */
  readonly isTooLarge: boolean
  closeWith(code: number): void
}

export interface WebSocketContext {
  /** The broker stops: no connection is closed for a reason of its own. */
  isStopping: boolean
  /** Bytes that a peer may have us keep before its login. */
  readonly bytesMax: number
  /** The same for all peers, and what they have. */
  readonly totalBytesMax: number
  readonly budget: { preLoginBytes: number }
}

type Done = (error?: Error | null) => void

interface RawHandle {
  readonly bytesWritten?: number
  readonly writeQueueSize?: number
}

export class WebSocketStream extends Duplex {
  /** Why we ended it; '' when the peer did. */
  endReason: string
  private readonly webSocket: PatientWebSocket
  private readonly raw: Socket | Duplex
  private readonly context: WebSocketContext
  /** Before its login. */
  private isStranger: boolean
  /** What its unfinished message costs, and what came of it. */
  private heldBytes: number
  private unfinishedBytes: number
  /** Messages that ended, modulo 2^31. */
  private messages: number
  private messagesBefore: number
  /** Frames given to the socket, and those of them that it has written. */
  private given: number
  private written: number
  /** Of the frame that is being written. */
  private done: Done | null
  /** Of the end. */
  private ended: Done | null
  /** Bytes of the writes that are over. */
  private writtenBytes: number
  private writingBytes: number
  /** Where the payload of the frame being written begins among the bytes of the raw socket. */
  private payloadStart: number
  private readonly onWritten: (error?: Error | null) => void
  private readonly onRawData: (chunk: Buffer) => void

  constructor(webSocket: PatientWebSocket, raw: Socket | Duplex, context: WebSocketContext) {
    super()
    this.endReason = ''
    this.webSocket = webSocket
    this.raw = raw
    this.context = context
    this.isStranger = true
    this.heldBytes = 0
    this.unfinishedBytes = 0
    this.messages = 0
    this.messagesBefore = 0
    this.given = 0
    this.written = 0
    this.done = null
    this.ended = null
    this.writtenBytes = 0
    this.writingBytes = 0
    this.payloadStart = 0
    this.onWritten = error => this.frameWritten(error)
    this.onRawData = chunk => this.countHeld(chunk)
    raw.on('data', this.onRawData)
    webSocket.on('message', (data, isBinary) => this.received(data, isBinary))
    // `ws` answers what is no WebSocket frame with the close code for it; what is too large, `_final` does.
    webSocket.on('error', error => this.endFor(`WebSocket: ${error.message}`))
    webSocket.on('close', () => this.webSocketClosed())
  }

  /** Bytes of the stream that the kernel has; what is behind TLS counts by whole writes. */
  get sentBytes(): number {
    if (this.done === null) return this.writtenBytes
    const handle = (this.raw as unknown as { _handle?: RawHandle | null })._handle
    const isPlain = !('encrypted' in this.raw)
    if (!isPlain || handle?.bytesWritten === undefined) return this.writtenBytes
    const taken = handle.bytesWritten - (handle.writeQueueSize ?? 0) - this.payloadStart
    return this.writtenBytes + Math.min(Math.max(taken, 0), this.writingBytes)
  }

  /** The peer sent a message larger than may be: it has ended for us. */
  get isTooLarge(): boolean {
    return this.webSocket.isTooLarge
  }

  /** The peer has logged in: it may send messages as large as packets. */
  loggedIn(): void {
    this.holds(0)
    this.isStranger = false
    this.raw.off('data', this.onRawData)
  }

  override _read(): void {
    if (this.webSocket.isPaused) this.webSocket.resume()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    const { webSocket, raw } = this
    this.done = done
    this.writingBytes = chunk.length
    // It is closing: nothing is written any more, which `webSocketClosed` says.
    if (webSocket.readyState !== OPEN) {
      if (webSocket.readyState === CLOSED) process.nextTick(() => this.fail())
      return
    }
    const { bytesWritten = 0 } = raw as Socket
    this.payloadStart = bytesWritten + headerBytes(chunk.length)
    this.given++
    webSocket.send(chunk, BINARY, this.onWritten)
    if (raw.writableLength === 0) this.finishWrite()
  }

  override _final(done: Done): void {
    const { webSocket, context } = this
    if (webSocket.readyState === CLOSED) {
      done()
      return
    }
    // The stream is not over before the closing handshake is: `ws` bounds its time.
    this.ended = done
    if (webSocket.readyState !== OPEN) return
    const code = context.isStopping ? GOING_AWAY : NORMAL
    webSocket.closeWith(webSocket.isTooLarge ? TOO_BIG : code)
  }

  override _destroy(error: Error | null, done: Done): void {
    this.loggedIn()
    const { webSocket } = this
    if (webSocket.readyState === CLOSED) {
      done(error)
      return
    }
    webSocket.once('close', () => done(error))
    webSocket.terminate()
  }

  private received(data: RawData, isBinary: boolean): void {
    this.messages = (this.messages + 1) & 0x7fffffff
    if (!isBinary) {
      this.refuse(UNSUPPORTED_DATA, 'WebSocket: a text message')
      return
    }
    const bytes = data as Buffer
    if (bytes.length === 0 || this.endReason !== '') return
    if (!this.push(bytes)) this.webSocket.pause()
  }

  /** Called for each read, after `ws` has looked at it. */
  private countHeld(chunk: Buffer): void {
    const { bytesMax, totalBytesMax, budget } = this.context
    const isNew = this.messages !== this.messagesBefore
    this.messagesBefore = this.messages
    if (isNew) this.unfinishedBytes = 0
    this.unfinishedBytes += chunk.length
    this.holds((isNew ? 0 : this.heldBytes) + chunk.length + CHUNK_BYTES)
    // The chunk in which a message ends may hold the beginning of a next one.
    if (!isNew && this.unfinishedBytes > bytesMax + READ_BYTES)
      this.refuse(TOO_BIG, 'too many bytes before login')
    else if (budget.preLoginBytes > totalBytesMax) {
      this.refuse(POLICY_VIOLATION, 'too many bytes before login')
      this.webSocket.terminate()
    }
  }

  private holds(bytes: number): void {
    if (!this.isStranger) return
    this.context.budget.preLoginBytes += bytes - this.heldBytes
    this.heldBytes = bytes
  }

  private refuse(code: number, reason: string): void {
    this.webSocket.closeWith(code)
    this.endFor(reason)
  }

  private endFor(reason: string): void {
    if (this.endReason !== '') return
    this.endReason = reason
    this.push(null)
  }

  private frameWritten(error?: Error | null): void {
    this.written++
    if (this.done === null || this.written !== this.given) return
    if (error === undefined || error === null) this.finishWrite()
    else this.fail()
  }

  private finishWrite(): void {
    const { done } = this
    this.done = null
    this.writtenBytes += this.writingBytes
    if (done !== null) done()
  }

  /** What was not written never will be. */
  private fail(): void {
    const { done } = this
    this.done = null
    if (done !== null) done(new Error('the WebSocket is closed'))
  }

  private webSocketClosed(): void {
    this.fail()
    if (this.ended !== null) this.ended()
    if (!this.destroyed && this.endReason === '') this.push(null)
  }
}

/** RFC 6455 §5.2, without a mask. */
function headerBytes(payloadBytes: number): number {
  if (payloadBytes < 126) return 2
  return payloadBytes < 65_536 ? 4 : 10
}
