/**
 * TLS as a stage between a listener and its front-end, for all listeners of a process.
 *
 * A peer has no TLS state until its first record is there (`client-hello.ts`). Then it waits for its turn: a handshake
 * costs a signature, up to ten milliseconds on a small machine, and those who are connected go on in between. Of those
 * that are under way there is a bound; where it is reached, the oldest gives its place up when its peer has had a
 * second, so that nobody keeps others out by not answering; then the last to come is the next.
 */
import { randomBytes } from 'node:crypto'
import { TLSSocket } from 'node:tls'
import type { Arrival, Stage } from './arrival.ts'
import { ClientHello } from './client-hello.ts'
import { explainTlsError, explainVerifyError } from './tls-errors.ts'
import { identityOf, isName } from './tls-identity.ts'
import type { TlsSource } from './tls-source.ts'

/** Whose handshakes: what a listener tells. */
export interface TlsPort {
  readonly source: TlsSource
  /** Protocols of ALPN (RFC 7301), the best first; none: it is not answered. */
  readonly alpn: readonly string[]
}

/** The parts of Node's TLS sockets that have no public name; a server's sockets are asked the same. */
interface Internals {
  readonly _handle: { verifyError(): (Error & { code: string }) | null | undefined } | null
  secureConnecting: boolean
  _releaseControl(): boolean
}

/** After each so many the others have a turn. */
const STARTS_A_TURN = 2
/** What a peer has before its place may be given to another. */
const PATIENCE_MS = 1_000
/** How often it is looked for a place while there is none. */
const RETRY_MS = 50
/** So many who are gone are kept in the list of those who wait. */
const GONE_MAX = 64
/** For an identity that there is not: whoever asks cannot tell it from a wrong key. */
const NO_KEY = randomBytes(32)

export class Handshakes {
  started = 0
  completed = 0
  readonly #atOnceMax: number
  /** In the order of arrival; who is gone stays until it would be its turn, or until they are the most. */
  #waiting: Handshake[] = []
  #gone = 0
  readonly #running = new Set<Handshake>()
  #turn: NodeJS.Immediate | null = null
  #retry: NodeJS.Timeout | null = null

  constructor(atOnceMax: number) {
    this.#atOnceMax = atOnceMax
  }

  get waitingCount(): number {
    return this.#waiting.length - this.#gone
  }

  get runningCount(): number {
    return this.#running.size
  }

  /** For the sockets of one listener. */
  stage(port: TlsPort): Stage {
    return arrival => new Handshake(this, arrival, port).greet()
  }

  /** For `Handshake`: its first record is there. */
  queue(handshake: Handshake): void {
    handshake.isWaiting = true
    this.#waiting.push(handshake)
    this.#schedule()
  }

  /** For `Handshake`: it is done, or its peer is gone. */
  leave(handshake: Handshake): void {
    if (handshake.isWaiting) {
      handshake.isWaiting = false
      this.#gone++
      if (this.#gone > GONE_MAX && 2 * this.#gone > this.#waiting.length) {
        this.#waiting = this.#waiting.filter(other => other.isWaiting)
        this.#gone = 0
      }
    }
    if (this.#running.delete(handshake)) this.#schedule()
  }

  #schedule(): void {
    if (this.#waiting.length === 0) return
    this.#turn ??= setImmediate(() => {
      this.#turn = null
      this.#start()
    })
  }

  #start(): void {
    let left = STARTS_A_TURN
    while (this.#waiting.length > 0) {
      if (left === 0) {
        this.#schedule()
        return
      }
      const isFull = this.#running.size >= this.#atOnceMax
      if (isFull && !this.#makePlace()) {
        this.#retry ??= setTimeout(() => {
          this.#retry = null
          this.#schedule()
        }, RETRY_MS).unref()
        return
      }
      // In a storm who came last has the best prospects: its peer still waits.
      const handshake = (isFull ? this.#waiting.pop() : this.#waiting.shift())!
      if (!handshake.isWaiting) {
        this.#gone--
        continue
      }
      left--
      handshake.isWaiting = false
      this.#running.add(handshake)
      this.started++
      handshake.start()
    }
  }

  #makePlace(): boolean {
    for (const oldest of this.#running) {
      if (performance.now() - oldest.startedAt < PATIENCE_MS) return false
      oldest.giveWay()
      return true
    }
    return false
  }
}

/** One peer's, from its first byte to the end of the handshake. */
class Handshake {
  readonly #all: Handshakes
  readonly #arrival: Arrival
  readonly #port: TlsPort
  readonly #hello = new ClientHello()
  /** Its first record is there, its turn is not. */
  isWaiting = false
  startedAt = 0
  #pskIdentity: string | null = null

  constructor(all: Handshakes, arrival: Arrival, port: TlsPort) {
    this.#all = all
    this.#arrival = arrival
    this.#port = port
  }

  /** Reads until the first record is whole. */
  greet(): void {
    const { socket } = this.#arrival
    socket.once('close', this.#onClose)
    socket.once('end', this.#onEnd)
    socket.on('readable', this.#onReadable)
  }

  /** Its turn: the first record is answered. */
  start(): void {
    const { socket } = this.#arrival
    const { source, alpn } = this.#port
    const { context, psk } = source.current
    this.startedAt = performance.now()
    socket.off('end', this.#onEnd)
    // Answers to the last packets leave after the peer has sent its last byte.
    socket.allowHalfOpen = true
    const stream = new TLSSocket(socket, {
      isServer: true,
      secureContext: context,
      requestCert: source.settings.ca !== '',
      // Whether it is good is asked below: then it is known why not.
      rejectUnauthorized: false,
      ...(alpn.length === 0 ? {} : { ALPNProtocols: [...alpn] }),
      ...(psk === null ? {} : { pskCallback: this.#pskCallback(psk) })
    } as ConstructorParameters<typeof TLSSocket>[1])
    this.#arrival.stream = stream
    stream.on('error', this.#onError)
    stream.once('end', this.#onEnd)
    stream.once('secure', () => this.#onSecure(stream))
  }

  giveWay(): void {
    this.#arrival.refuse('gave its place to another handshake')
    this.#all.leave(this)
  }

  #pskCallback(keys: ReadonlyMap<string, Buffer>) {
    return (_socket: TLSSocket, identity: string): Buffer => {
      this.#pskIdentity = identity
      return keys.get(identity) ?? NO_KEY
    }
  }

  #onSecure(stream: TLSSocket): void {
    const internals = stream as unknown as Internals
    stream.off('error', this.#onError)
    stream.off('end', this.#onEnd)
    // Node tells of an error behind the handshake, and leaves the stream open.
    stream.on('error', drop)
    // OpenSSL refuses a second handshake, but who asks for one is not kept.
    stream.on('secure', drop)
    stream.disableRenegotiation()
    internals.secureConnecting = false
    internals._releaseControl()
    const why = this.#check(stream, internals)
    this.#over()
    if (why === null) {
      this.#all.completed++
      this.#arrival.next(stream)
    } else this.#arrival.refuse(why)
  }

  /** Why the peer may not come in; null, and its identity noted, when it may. */
  #check(stream: TLSSocket, { _handle: handle }: Internals): string | null {
    const { settings, current } = this.#port.source
    if (current.psk !== null) {
      if (!settings.usePskIdentity) return null
      const identity = this.#pskIdentity
      if (identity === null || !isName(identity)) return 'the identity of its key is no user name'
      this.#arrival.identity = identity
      return null
    }
    if (settings.ca === '') return null
    const certificate = stream.getPeerCertificate()
    // An empty object stands for none.
    if (certificate.raw === undefined) {
      return settings.requireCert ? 'it shows no certificate' : null
    }
    const error = handle === null ? new Error('closed') : handle.verifyError()
    if (error !== null && error !== undefined) return explainVerifyError(error, certificate)
    // A resumed session was verified when it was made.
    if (Date.parse(certificate.valid_to) <= Date.now()) return 'its certificate has expired'
    this.#arrival.isCertified = true
    if (settings.useIdentity === 'none') return null
    const identity = identityOf(certificate, settings.useIdentity)
    if (identity === null) return 'its certificate names no user'
    this.#arrival.identity = identity
    return null
  }

  #over(): void {
    const { socket } = this.#arrival
    socket.off('close', this.#onClose)
    this.#all.leave(this)
  }

  readonly #onReadable = (): void => {
    const { socket } = this.#arrival
    const piece = socket.read() as Buffer | null
    if (piece === null || this.#arrival.isOver) return
    const state = this.#hello.push(piece)
    if (state === 'other') {
      this.#arrival.refuse('it does not speak TLS')
      return
    }
    if (!this.#arrival.hold(this.#hello.bytes) || state === 'wait') return
    socket.off('readable', this.#onReadable)
    socket.unshift(this.#hello.take())
    this.#all.queue(this)
  }

  readonly #onError = (error: Error): void => {
    this.#arrival.refuse(explainTlsError(error))
  }

  readonly #onEnd = (): void => {
    // Who asks only whether the port is open sends nothing.
    if (this.#hello.bytes === 0) this.#arrival.socket.destroy()
    else this.#arrival.refuse('it closed the connection during the handshake')
  }

  readonly #onClose = (): void => {
    this.#over()
  }
}

function drop(this: TLSSocket): void {
  this.destroy()
}

/** The protocols that a listener of this scheme takes. */
export function alpnOf(scheme: string): readonly string[] {
  if (scheme === 'mqtts') return ['mqtt']
  return scheme === 'wss' || scheme === 'https' ? ['http/1.1'] : []
}
