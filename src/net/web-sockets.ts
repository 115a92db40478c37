/**
 * The stage that turns an HTTP upgrade into a stream of bytes. Nothing but upgrades is answered here, one request a
 * connection; what is refused gets its HTTP status and is closed. `ws` does the handshake and the frames, and is loaded
 * when the first client comes. No extension is negotiated: compressed messages cost a zlib state each, and a small one
 * can become a large one.
 *
 * A browser lets any page connect anywhere and says which one it is (Origin). With users a page needs somebody's
 * password; without, only pages of this machine are let in, since everybody on it is. Clients that are no browsers say
 * nothing.
 */
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Arrival, ListenAddress, Stage } from './arrival.ts'
import { isLoopbackAddress } from './loopback.ts'
import {
  type PatientWebSocket,
  TOO_BIG,
  type WebSocketContext,
  WebSocketStream
} from './web-socket-stream.ts'

const PATHS = ['/mqtt', '/ws', '/'] as const
const SUBPROTOCOLS: readonly string[] = ['mqtt', 'mqttv3.1']
const HEADER_BYTES_MAX = 16 * 1024
const HEADERS_MAX = 100
/** How long a peer has to read why it is refused, and `ws` to close. */
const GRACE_MS = 1_000
const PONGS_MAX = 256
/** A message may hold a largest packet and some small ones. */
const EXTRA_BYTES = 64 * 1024
const PART_BYTES_MIN = 1_024
const PARTS_MIN = 1_024

export interface WebSocketsOptions {
  /** For listeners that name none of their own; none: what the users make safe. */
  readonly origins: readonly string[]
  readonly hasUsers: () => boolean
  readonly packetBytesMax: number
  readonly preLoginBytesMax: number
  readonly preLoginTotalBytesMax: number
  readonly budget: { preLoginBytes: number }
}

/** The part of `ws`'s server that is used. */
interface PatientServer {
  handleUpgrade(
    request: IncomingMessage,
    stream: Duplex,
    head: Buffer,
    done: (webSocket: PatientWebSocket) => void
  ): void
}

/** One for all listeners. */
export class WebSockets {
  readonly #options: WebSocketsOptions
  readonly #context: WebSocketContext
  readonly #http: Server
  /** Who asks, by the stream it asks on. */
  readonly #arrivals = new WeakMap<Duplex, Arrival>()
  #webSocketServer: Promise<PatientServer> | null = null

  constructor(options: WebSocketsOptions) {
    this.#options = options
    this.#context = {
      isStopping: false,
      bytesMax: options.preLoginBytesMax,
      totalBytesMax: options.preLoginTotalBytesMax,
      budget: options.budget
    }
    // Deadlines are those of all stages together.
    this.#http = createServer({
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: 0,
      requestTimeout: 0,
      insecureHTTPParser: false
    })
    // One more than allowed: what Node leaves out cannot be counted.
    this.#http.maxHeadersCount = HEADERS_MAX + 1
    this.#http.on('upgrade', (request, stream, head) => this.#upgrade(request, stream, head))
    this.#http.on('request', request => this.#refuseRequest(request))
    this.#http.on('connect', (_request, stream) => this.#refuse(stream, 405))
    this.#http.on('clientError', (error: NodeJS.ErrnoException, stream) => {
      this.#refuse(stream, error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400)
    })
  }

  stage(_address: ListenAddress): Stage {
    return arrival => {
      const { stream } = arrival
      this.#arrivals.set(stream, arrival)
      this.#http.emit('connection', stream)
      // What the parser keeps of a request without an end counts too. Listened to behind it, so that it hands it out.
      let bytes = 0
      const count = (chunk: Buffer) => {
        bytes += chunk.length
        if (arrival.isOver) stream.off('data', count)
        else arrival.hold(bytes)
      }
      stream.on('data', count)
      stream.resume()
    }
  }

  /** From now on connections are closed because the broker stops. */
  close(): void {
    this.#context.isStopping = true
  }

  #upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void {
    const arrival = this.#arrivals.get(stream)
    if (arrival === undefined || arrival.isOver) return
    const status = this.#judge(request, arrival)
    if (status !== 0) {
      this.#refuse(stream, status)
      return
    }
    // Kept until `ws` is there, so that no reset ends the process.
    const ignore = () => undefined
    stream.on('error', ignore)
    this.#webSocketServer ??= this.#load()
    this.#webSocketServer.then(
      server => {
        stream.off('error', ignore)
        if (arrival.isOver) return
        server.handleUpgrade(request, stream, head, webSocket => {
          arrival.next(new WebSocketStream(webSocket, stream as Socket, this.#context))
        })
      },
      // The module cannot be loaded: what is installed is not whole.
      (error: unknown) => arrival.refuse(`WebSockets cannot be served: ${String(error)}`)
    )
  }

  #refuseRequest(request: IncomingMessage): void {
    const arrival = this.#arrivals.get(request.socket)
    const status = arrival === undefined ? 400 : this.#judge(request, arrival)
    // `ws` would say the same of an upgrade to something else.
    this.#refuse(request.socket, status === 0 ? 426 : status)
  }

  /** The HTTP status that refuses the request; 0: it may become a WebSocket. */
  #judge(request: IncomingMessage, arrival: Arrival): number {
    const { headers, rawHeaders, url = '', method, httpVersionMinor } = request
    if (rawHeaders.length > 2 * HEADERS_MAX) return 431
    const path = url.split('?', 1)[0]!
    if (!PATHS.some(known => known === path) && path !== arrival.address.path) return 404
    if (method !== 'GET') return 405
    if (headers.upgrade?.toLowerCase() !== 'websocket') return 426
    if (httpVersionMinor === 0) return 400
    const origin = headers.origin ?? headers['sec-websocket-origin']
    if (origin !== undefined && !this.#isWelcome(String(origin), request, arrival)) return 403
    // [MQTT-6.0.0-3]: a client must offer it. What is not offered is not told [MQTT-6.0.0-4].
    const offered = (headers['sec-websocket-protocol'] ?? '').split(',')
    return offered.some(name => SUBPROTOCOLS.includes(name.trim())) ? 0 : 400
  }

  #isWelcome(origin: string, request: IncomingMessage, arrival: Arrival): boolean {
    const { origins: general, hasUsers } = this.#options
    const origins = arrival.address.origins ?? (general.length > 0 ? general : null)
    if (origins !== null) {
      return origins.some(known => known === '*' || known.toLowerCase() === origin.toLowerCase())
    }
    if (!hasUsers()) return isLoopbackOrigin(origin)
    // A browser shows a client certificate for any page: only our own may use it.
    return !arrival.isCertified || hostOf(origin) === request.headers.host?.toLowerCase()
  }

  /** Answers and closes; only the first answer counts. */
  #refuse(stream: Duplex, status: number): void {
    const arrival = this.#arrivals.get(stream)
    if (arrival === undefined || stream.destroyed) return
    this.#arrivals.delete(stream)
    arrival.note(`WebSocket: HTTP ${status}`)
    stream.on('error', () => stream.destroy())
    const text = `${STATUS_CODES[status]}\n`
    stream.end(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${EXTRA_HEADERS[status] ?? ''}Connection: close\r\n` +
        `Content-Type: text/plain\r\nContent-Length: ${text.length}\r\n\r\n${text}`
    )
    // Unread bytes would make the end a reset, which can overtake the answer.
    stream.resume()
    setTimeout(() => stream.destroy(), GRACE_MS).unref()
  }

  async #load(): Promise<PatientServer> {
    const { WebSocket, WebSocketServer } = await import('ws')
    class Patient extends WebSocket implements PatientWebSocket {
      isTooLarge = false

      /** Called by `ws` too; for what is too large the last MQTT packet goes first. */
      override close(code?: number, reason?: string | Buffer): void {
        if (code === TOO_BIG) this.isTooLarge = true
        else super.close(code, reason)
      }

      closeWith(code: number): void {
        super.close(code)
      }
    }
    const payloadBytesMax = this.#options.packetBytesMax + EXTRA_BYTES
    const partsMax = Math.max(PARTS_MIN, Math.ceil(payloadBytesMax / PART_BYTES_MIN))
    return new WebSocketServer({
      noServer: true,
      WebSocket: Patient,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: payloadBytesMax,
      // Text is refused, whatever it is.
      skipUTF8Validation: true,
      // [MQTT-6.0.0-4]: `mqtt`, wherever it stands in the list.
      handleProtocols: offered => SUBPROTOCOLS.find(name => offered.has(name)) ?? false,
      ...{
        closeTimeout: GRACE_MS,
        maxPendingAutoPongs: PONGS_MAX,
        maxFragments: partsMax,
        maxBufferedChunks: 16 * partsMax
      }
    })
  }
}

const EXTRA_HEADERS: Readonly<Record<number, string>> = {
  405: 'Allow: GET\r\n',
  426: 'Upgrade: websocket\r\n'
}

function hostOf(origin: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\/([^/]*)$/i.exec(origin)?.[1]?.toLowerCase() ?? ''
}

function isLoopbackOrigin(origin: string): boolean {
  const host = hostOf(origin)
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
  const isAddress = /^(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)$/.test(host)
  return host === 'localhost' || (isAddress && isLoopbackAddress(host))
}
