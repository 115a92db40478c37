/**
 * A listening socket, TCP or Unix: from a URL's parts to accepted, still unread connections.
 *
 * Each accepted socket is handed over paused (`pauseOnConnect`), so that its handle can be taken by the
 * shared read buffer before the first byte is read. It holds a place of the admission: whoever takes it
 * calls `release()` once, when that connection is closed. The listener cannot see it itself, since the
 * handle no longer belongs to the socket it accepted.
 */
import { type AddressInfo, createServer, isIPv6, type Server, type Socket } from 'node:net'
import { type Admission, Turnstile } from './admission.ts'
import { Arrival, type ListenAddress, Lobby, type Stage } from './arrival.ts'
import { findPortHolder } from './port-holder.ts'
import { bindUnix } from './unix-server.ts'

/** Node can set the first of TCP's keepalive times only; the kernel's defaults are the other two. */
const TCP_KEEPALIVE_MS = 60_000
const BACKLOG = 4_096

/** The world said no: the sentence is for the operator, exit 1. */
export class ListenError extends Error {
  readonly code: string

  constructor(code: string, message: string, cause: unknown) {
    super(message, { cause })
    this.name = 'ListenError'
    this.code = code
  }
}

const NO_LOBBY = new Lobby({
  deadlineMs: Number.POSITIVE_INFINITY,
  budget: { preLoginBytes: 0 },
  bytesMax: Number.POSITIVE_INFINITY,
  log: () => undefined
})

export interface ListenOptions {
  readonly admission: Admission
  /** Takes what came through all stages. */
  readonly onConnection: (arrival: Arrival) => void
  /** What stands between an accepted socket and that; none without it. */
  readonly lobby?: Lobby
  readonly stagesOf?: (address: ListenAddress) => readonly Stage[]
}

export class Listener {
  readonly address: ListenAddress
  /** With the real port. */
  readonly url: string
  readonly port: number
  /** Connections it handed over. */
  accepted = 0
  /** Connections that the kernel offered and we could not take. */
  acceptErrors = 0
  readonly #server: Server
  readonly #admission: Admission
  readonly #turnstile: Turnstile<Socket>
  readonly #lobby: Lobby
  readonly #stages: readonly Stage[]
  readonly #onConnection: (arrival: Arrival) => void
  readonly #release = () => this.#admission.leave()
  #isClosed = false

  /** Use `openListener`. */
  constructor(server: Server, address: ListenAddress, options: ListenOptions) {
    const { admission } = options
    this.#server = server
    this.address = address
    const isUnix = address.unixPath !== ''
    this.port = isUnix ? 0 : (server.address() as AddressInfo).port
    this.url = isUnix ? address.url : urlWithPort(address, this.port)
    this.#admission = admission
    this.#onConnection = options.onConnection
    this.#lobby = options.lobby ?? NO_LOBBY
    this.#stages = options.stagesOf?.(address) ?? []
    this.#turnstile = new Turnstile(admission.perSecond, admission.burst, socket =>
      this.#handOver(socket)
    )
    server.on('connection', socket => this.#accept(socket))
    // Out of descriptors, or a connection that was gone before it was accepted.
    server.on('error', () => {
      this.acceptErrors++
    })
  }

  get heldCount(): number {
    return this.#turnstile.heldCount
  }

  /** Stops accepting; sockets still held are closed, those handed over live on. Idempotent. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const socket of this.#turnstile.close()) {
      socket.destroy()
      this.#admission.leave()
    }
    // The port is free, the Unix socket's file removed, when this returns; its callback would wait for
    // every connection to end.
    this.#server.close()
  }

  #accept(socket: Socket): void {
    if (this.#isClosed || !this.#admission.enter()) {
      socket.destroy()
      return
    }
    // Until somebody takes it over, a reset must not end the process.
    socket.on('error', ignoreEarlyReset)
    if (!this.#turnstile.push(socket)) this.#admission.delayed++
  }

  #handOver(socket: Socket): void {
    socket.off('error', ignoreEarlyReset)
    if (socket.destroyed) {
      this.#admission.leave()
      return
    }
    this.accepted++
    new Arrival(this.address, socket, this.#release, this.#onConnection).enter(
      this.#lobby,
      this.#stages
    )
  }
}

function ignoreEarlyReset(): void {
  // The socket destroys itself; `#handOver` sees it.
}

/** Listens. @throws ListenError with a sentence for the operator */
export async function openListener(
  address: ListenAddress,
  options: ListenOptions
): Promise<Listener> {
  const server = createServer({
    pauseOnConnect: true,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: TCP_KEEPALIVE_MS
  })
  try {
    if (address.unixPath !== '') await bindUnix(server, address.unixPath, address.mode, BACKLOG)
    else await bindTcp(server, address)
  } catch (error) {
    throw await explain(address, error as NodeJS.ErrnoException)
  }
  return new Listener(server, address, options)
}

async function bindTcp(server: Server, { host, port }: ListenAddress): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

export interface OpenedListeners {
  readonly listeners: readonly Listener[]
  /** URLs left out because this machine does not have such an address. */
  readonly skipped: readonly string[]
}

/** Opens all, or none. @throws ListenError */
export async function openListeners(
  addresses: readonly (ListenAddress & { readonly isOptional: boolean })[],
  options: ListenOptions
): Promise<OpenedListeners> {
  const listeners: Listener[] = []
  const skipped: string[] = []
  for (const address of addresses) {
    try {
      listeners.push(await openListener(address, options))
    } catch (error) {
      if (address.isOptional && isAddressMissing(error)) {
        skipped.push(address.url)
        continue
      }
      for (const listener of listeners) listener.close()
      throw error
    }
  }
  return { listeners, skipped }
}

/** True for the errors that mean: this machine does not have such an address (no IPv6, say). */
export function isAddressMissing(error: unknown): boolean {
  return (
    error instanceof ListenError && ['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EINVAL'].includes(error.code)
  )
}

async function explain(address: ListenAddress, error: NodeJS.ErrnoException): Promise<ListenError> {
  const code = error.code ?? 'UNKNOWN'
  return new ListenError(
    code,
    `cannot listen on ${address.url}: ${await reason(address, error)}`,
    error
  )
}

async function reason(address: ListenAddress, error: NodeJS.ErrnoException): Promise<string> {
  const { port, host, unixPath } = address
  if (unixPath !== '') return error.message
  switch (error.code) {
    case 'EADDRINUSE': {
      const holder = await findPortHolder(port)
      const by = holder === null ? 'another program (see it with: sudo ss -ltnp)' : holder
      const other = urlWithPort(address, port < 65_535 ? port + 1 : 0)
      return `port ${port} is in use by ${by}; stop it, or take another port with --listen ${other}`
    }
    case 'EACCES': {
      const other = urlWithPort(address, 10_000 + (port % 10_000))
      return `port ${port} may not be opened by this user; take one from 1024 on with --listen ${other}`
    }
    case 'EADDRNOTAVAIL':
      return `this machine has no address ${host}`
    case 'EAFNOSUPPORT':
      return `this machine has no ${isIPv6(host) ? 'IPv6' : 'IPv4'}`
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `the name ${host} is not known; write an address`
    default:
      return error.message
  }
}

function urlWithPort(address: ListenAddress, port: number): string {
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${address.scheme}://${host}:${port}`
}
