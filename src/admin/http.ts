/**
 * The HTTP front-end: requests in, one handler a route, limits on everything. It serves the `http://` and
 * `metrics://` listeners and the admin socket, each with its own routes.
 *
 * Node's parser closes with 400, 408 and 431 by itself; the rest is here. On listeners that only this
 * machine reaches the Host header must name this machine: else a web page could reach them through a
 * name that its owner points at 127.0.0.1 (DNS rebinding).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import {
  type AdminRequest,
  findRoute,
  HttpError,
  json,
  readJsonBody,
  responseOfError,
  type Route,
  send,
  splitPath
} from './router.ts'

const HEADER_BYTES_MAX = 16 * 1024
const TARGET_BYTES_MAX = 4 * 1024
const REQUEST_TIMEOUT_MS = 10_000
const IDLE_TIMEOUT_MS = 10_000
const CHECK_INTERVAL_MS = 2_000
const HEADERS_MAX = 100

export interface AdminServerOptions {
  readonly routes: readonly Route[]
  /** Host names answered; null: any (a Unix socket is reached by no web page). */
  readonly hosts: readonly string[] | null
  /** Told of what was a bug of ours; the peer got 500. */
  readonly onBug: (error: unknown, method: string, path: string) => void
  /** For tests: how long a request may take, milliseconds. */
  readonly requestTimeoutMs?: number
}

export class AdminServer {
  readonly server: Server
  readonly #options: AdminServerOptions
  #isWatching = false
  #isClosed = false

  constructor(options: AdminServerOptions) {
    this.#options = options
    const timeoutMs = options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS
    this.server = createServer({
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: timeoutMs,
      requestTimeout: timeoutMs,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, timeoutMs),
      insecureHTTPParser: false
    })
    this.server.maxHeadersCount = HEADERS_MAX
    this.server.on('request', (request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        // The answer itself failed: the peer is gone, or we have a bug.
        response.destroy()
        if (!request.destroyed) this.#options.onBug(error, request.method ?? '', request.url ?? '')
      })
    })
    // No protocol is switched to, and nothing is expected, here.
    this.server.on('upgrade', (_request, socket) => socket.destroy())
    this.server.on('connect', (_request, socket) => {
      socket.end('HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n')
    })
  }

  /** Takes a connection that a listener accepted; `onClosed` is called once when it is gone. */
  take(socket: Socket, onClosed: () => void): void {
    socket.once('close', onClosed)
    if (this.#isClosed) {
      socket.destroy()
      return
    }
    this.#watchSlowRequests()
    this.server.emit('connection', socket)
    socket.resume()
  }

  /** Closes every connection. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.server.close()
    this.server.closeAllConnections()
  }

  /** Node begins to look for slow requests when its server listens; ours is handed connections. */
  #watchSlowRequests(): void {
    if (this.#isWatching) return
    this.#isWatching = true
    this.server.emit('listening')
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? ''
    const target = request.url ?? ''
    let allow = ''
    let answer = json({ error: 'internal error' }, 500)
    try {
      if (target.length > TARGET_BYTES_MAX) throw new HttpError(414, 'the path is too long')
      this.#checkHost(request)
      const parts = splitPath(target)
      const handler = findRoute(this.#options.routes, method, parts)
      const asked: AdminRequest = {
        method,
        parts,
        readJson: bytesMax => readJsonBody(request, bytesMax)
      }
      answer = await handler(asked)
    } catch (error) {
      // The peer went away while its body was read: nobody is there to answer.
      if (request.destroyed && !request.complete) return
      const refusal = responseOfError(error)
      if (refusal === null) this.#options.onBug(error, method, target)
      else answer = refusal
      if (error instanceof HttpError) allow = error.allow
    }
    if (!response.destroyed) send(response, answer, allow, request.complete)
  }

  #checkHost(request: IncomingMessage): void {
    const { hosts } = this.#options
    if (hosts === null) return
    const host = hostNameOf(request.headers.host ?? '')
    if (isLoopbackName(host) || hosts.some(known => known.toLowerCase() === host)) return
    throw new HttpError(403, 'this Host is not served here (option http.hosts)')
  }
}

/** `example.org:80` → `example.org`; `[::1]:80` → `::1`. */
function hostNameOf(header: string): string {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::\d*)?$/.exec(header.trim().toLowerCase())
  return match?.[1] ?? match?.[2] ?? ''
}

function isLoopbackName(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host)
}
