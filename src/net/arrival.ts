/**
 * The way of an accepted socket to its front-end, in stages: PROXY header, TLS, WebSocket. A stage takes the bytes that
 * are its own off the stream, or puts a layer around it, and calls `next`. All stages together have the time that a
 * client has for its login, and what they buffer counts as bytes before login. A listener without stages hands its
 * sockets on at once, unread.
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { isLoopbackAddress } from './loopback.ts'

export interface ListenAddress {
  /** As a user wrote it: for messages. */
  readonly url: string
  readonly scheme: string
  /** Who serves it. */
  readonly protocol: 'mqtt' | 'amqp' | 'http' | 'metrics'
  readonly isTls: boolean
  readonly isWebSocket: boolean
  /** '' for a Unix socket. */
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** File of a Unix socket, and its rights; '' for TCP. */
  readonly unixPath: string
  readonly mode: number
  readonly vhost: string
  /** A WebSocket path served beside the usual ones; ''. */
  readonly path: string
  /** Origins of web pages that a WebSocket listener serves; null: nothing of its own is said. */
  readonly origins: readonly string[] | null
  /** Who begins with a PROXY header, and nobody else may connect; none: nobody does. */
  readonly proxyFrom: readonly string[]
  /** Its configuration says that it may be open to everybody. */
  readonly insecure: boolean
}

export interface Remote {
  readonly address: string
  readonly port: number
}

/** Calls `arrival.next` once, now or later; or `refuse`; or lets the peer go. */
export type Stage = (arrival: Arrival) => void

const TICK_MS = 1_000
/** Log lines a second for those who do not get through: the rest are counted only. */
const LINES_A_SECOND = 10

export interface LobbyOptions {
  readonly deadlineMs: number
  /** Bytes of all peers before their login, and most of them. */
  readonly budget: { preLoginBytes: number }
  readonly bytesMax: number
  readonly log: (fields: { url: string; peer: string; reason: string }) => void
}

/** Those between their listener and their front-end. One for the process. */
export class Lobby {
  /** Refused by a stage. */
  refused = 0
  /** Not through all stages in time. */
  late = 0
  readonly options: LobbyOptions
  readonly #waiting = new Set<Arrival>()
  #timer: NodeJS.Timeout | null = null
  #tickedAt = 0
  #lines = LINES_A_SECOND

  constructor(options: LobbyOptions) {
    this.options = options
  }

  get count(): number {
    return this.#waiting.size
  }

  enter(arrival: Arrival): void {
    this.#waiting.add(arrival)
    if (this.#timer !== null) return
    this.#tickedAt = performance.now()
    this.#lines = LINES_A_SECOND
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#timer.unref()
  }

  leave(arrival: Arrival): void {
    if (!this.#waiting.delete(arrival) || this.#waiting.size > 0 || this.#timer === null) return
    clearInterval(this.#timer)
    this.#timer = null
  }

  note(fields: { url: string; peer: string; reason: string }): void {
    if (this.#lines === 0) return
    this.#lines--
    this.options.log(fields)
  }

  /** Drops all that wait. */
  close(): void {
    for (const arrival of this.#waiting) arrival.socket.destroy()
  }

  #tick(): void {
    const now = performance.now()
    // A stall of our own loop is no fault of the peers: at most two periods count.
    const elapsed = Math.min(now - this.#tickedAt, 2 * TICK_MS)
    this.#tickedAt = now
    this.#lines = LINES_A_SECOND
    for (const arrival of this.#waiting) {
      arrival.waitedMs += elapsed
      if (arrival.waitedMs < this.options.deadlineMs) continue
      this.late++
      arrival.refuse('not ready for its login in time')
    }
  }
}

export class Arrival {
  readonly address: ListenAddress
  /** What was accepted. */
  readonly socket: Socket
  /** The outermost layer: what the next stage, or the front-end, reads and writes. */
  stream: Socket | Duplex
  /** Gives its place among the connections back; whoever has it in the end calls it once. */
  readonly release: () => void
  /** The peer that a proxy named; null: it is who the socket says. */
  remote: Remote | null
  /** It came through a proxy: its address is what that says, and nobody is local. */
  isProxied: boolean
  /** It showed a certificate that was verified. */
  isCertified: boolean
  /** Milliseconds in the stages. */
  waitedMs: number
  /** The user that TLS has verified: the name in its certificate, or of its pre-shared key. */
  identity: string | null
  #lobby: Lobby | null
  #stages: readonly Stage[]
  #at: number
  #heldBytes: number
  #onThrough: (arrival: Arrival) => void
  readonly #onClosed = () => this.#gone()

  constructor(
    address: ListenAddress,
    socket: Socket,
    release: () => void,
    onThrough: (arrival: Arrival) => void
  ) {
    this.address = address
    this.socket = socket
    this.stream = socket
    this.release = release
    this.remote = null
    this.isProxied = false
    this.isCertified = false
    this.waitedMs = 0
    this.identity = null
    this.#lobby = null
    this.#stages = []
    this.#at = 0
    this.#heldBytes = 0
    this.#onThrough = onThrough
  }

  /** Whether the peer counts as local: it is, or its listener is open to everybody on purpose. */
  get isTrusted(): boolean {
    const { insecure, unixPath } = this.address
    if (insecure) return true
    if (this.isProxied) return false
    return unixPath !== '' || isLoopbackAddress(this.socket.remoteAddress ?? '')
  }

  /** `address:port`, or `unix`. */
  get peer(): string {
    const { socket, remote } = this
    const address = remote?.address ?? socket.remoteAddress ?? ''
    return address === '' ? 'unix' : `${address}:${remote?.port ?? socket.remotePort ?? 0}`
  }

  /** It went through, was refused, or its peer is gone: no stage has anything to do with it any more. */
  get isOver(): boolean {
    return this.#lobby === null
  }

  /** Goes through the stages. */
  enter(lobby: Lobby, stages: readonly Stage[]): void {
    if (stages.length === 0) {
      this.#onThrough(this)
      return
    }
    this.#lobby = lobby
    this.#stages = stages
    lobby.enter(this)
    this.socket.on('error', ignoreReset)
    this.socket.once('close', this.#onClosed)
    stages[0]!(this)
  }

  /** A stage is done. */
  next(stream: Socket | Duplex = this.stream): void {
    if (this.#lobby === null) {
      stream.destroy()
      return
    }
    this.stream = stream
    this.#at++
    const stage = this.#stages[this.#at]
    if (stage !== undefined) {
      stage(this)
      return
    }
    this.#leave()
    const { socket } = this
    socket.off('close', this.#onClosed)
    // The layers around it do not know whose it is.
    const { remoteAddress: address = '', remotePort: port = 0 } = socket
    if (stream !== socket) this.remote ??= { address, port }
    this.#onThrough(this)
  }

  /** So many bytes are buffered now; false: too many, the peer is gone. */
  hold(bytes: number): boolean {
    const lobby = this.#lobby
    if (lobby === null) return false
    const { budget, bytesMax } = lobby.options
    budget.preLoginBytes += bytes - this.#heldBytes
    this.#heldBytes = bytes
    if (bytes === 0 || budget.preLoginBytes <= bytesMax) return true
    this.refuse('too many bytes before login')
    return false
  }

  /** Drops the peer. */
  refuse(reason: string): void {
    this.note(reason)
    this.stream.destroy()
    this.socket.destroy()
    this.#gone()
  }

  /** A line in the log for a peer that was told by its own protocol. */
  note(reason: string): void {
    const lobby = this.#lobby
    if (lobby === null) return
    lobby.refused++
    lobby.note({ url: this.address.url, peer: this.peer, reason })
  }

  #gone(): void {
    if (this.#lobby === null) return
    this.#leave()
    this.release()
  }

  #leave(): void {
    this.hold(0)
    this.#lobby?.leave(this)
    this.#lobby = null
  }
}

function ignoreReset(): void {
  // The socket destroys itself; its 'close' is what counts.
}
