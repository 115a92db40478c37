/** Opens a stream of bytes to a broker: TCP, TLS, WebSocket or a Unix socket, also through a SOCKS5 proxy. */
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import type { Version } from '../mqtt/codec/packet-types.ts'
import { shortenUnixPath } from '../net/unix-path.ts'
import { type SocksProxy, throughProxy } from './socks.ts'
import type { Target } from './target.ts'

/** Null: not given. */
export interface TlsFields {
  /** PEM texts of the authorities that are trusted; null: those that Node brings along. */
  readonly ca: readonly string[] | null
  readonly cert: string | null
  readonly key: string | null
  readonly passphrase: string | null
  /** The server's name is not compared with its certificate; who signed it is. */
  readonly insecure: boolean
  readonly ciphers: string | null
  readonly version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3' | null
  readonly alpn: string | null
  readonly psk: { readonly identity: string; readonly key: Buffer } | null
}

export interface TransportFields {
  readonly tls: TlsFields | null
  /** Local address to connect from. */
  readonly bindAddress: string | null
  readonly proxy: SocksProxy | null
}

export const PLAIN: TransportFields = { tls: null, bindAddress: null, proxy: null }

/** Resolves with an open stream that has not been read; rejects with the system's error. */
export async function openStream(
  target: Target,
  fields: TransportFields,
  version: Version,
  signal: AbortSignal
): Promise<Duplex> {
  switch (target.transport) {
    case 'unix':
      return await openUnix(target.path, signal)
    case 'ws':
    case 'wss':
      return await openWebSocket(target, fields, version, signal)
    case 'tls':
      return await openTls(target, fields, signal)
    default:
      return await openTcp(target, fields, signal)
  }
}

async function openUnix(path: string, signal: AbortSignal): Promise<Socket> {
  const short = shortenUnixPath(path)
  try {
    return await opened(connect({ path: short.path, allowHalfOpen: true }), 'connect', signal)
  } finally {
    short.release()
  }
}

async function openTcp(
  target: Target,
  fields: TransportFields,
  signal: AbortSignal
): Promise<Socket> {
  const { proxy } = fields
  const { host, port } = proxy ?? target
  const local = fields.bindAddress === null ? {} : { localAddress: fields.bindAddress }
  const socket = await opened(
    connect({ host, port, allowHalfOpen: true, noDelay: true, ...local }),
    'connect',
    signal
  )
  if (proxy !== null) await throughProxy(socket, proxy, target.host, target.port)
  return socket
}

async function openTls(
  target: Target,
  fields: TransportFields,
  signal: AbortSignal
): Promise<TLSSocket> {
  const { connect: connectTls } = await import('node:tls')
  const plain = await openTcp(target, fields, signal)
  const secure = connectTls({ ...tlsOptions(target, fields.tls), socket: plain })
  return await opened(secure, 'secureConnect', signal)
}

function tlsOptions(target: Target, fields: TlsFields | null): ConnectionOptions {
  const isName = !/^[\d.]+$|:/.test(target.host)
  const options: ConnectionOptions = isName
    ? { host: target.host, servername: target.host }
    : { host: target.host }
  if (fields === null) return options
  if (fields.ca !== null) options.ca = [...fields.ca]
  if (fields.cert !== null) options.cert = fields.cert
  if (fields.key !== null) options.key = fields.key
  if (fields.passphrase !== null) options.passphrase = fields.passphrase
  if (fields.alpn !== null) options.ALPNProtocols = [fields.alpn]
  if (fields.ciphers !== null) options.ciphers = fields.ciphers
  if (fields.version !== null) {
    options.minVersion = fields.version
    options.maxVersion = fields.version
  }
  if (fields.insecure) options.checkServerIdentity = () => undefined
  const { psk } = fields
  if (psk !== null) {
    options.pskCallback = () => ({ psk: psk.key, identity: psk.identity })
    // Who knows the key is the server: there is no certificate to check.
    options.checkServerIdentity = () => undefined
    options.ciphers ??= 'PSK'
    options.maxVersion = 'TLSv1.2'
    options.minVersion = 'TLSv1.2'
  }
  return options
}

async function openWebSocket(
  target: Target,
  fields: TransportFields,
  version: Version,
  signal: AbortSignal
): Promise<Duplex> {
  // Only who asks for a WebSocket pays for its package.
  const { WebSocket, createWebSocketStream } = await import('ws')
  const isSecure = target.transport === 'wss'
  const host = target.host.includes(':') ? `[${target.host}]` : target.host
  const url = `${isSecure ? 'wss' : 'ws'}://${host}:${target.port}${target.path}`
  const given = isSecure ? tlsOptions(target, fields.tls) : {}
  const local = fields.bindAddress === null ? {} : { localAddress: fields.bindAddress }
  const socket = new WebSocket(url, [version === 3 ? 'mqttv3.1' : 'mqtt'], {
    ...(given as object),
    ...local,
    perMessageDeflate: false
  })
  const stream = createWebSocketStream(socket)
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => {
      stream.destroy(new Error('aborted'))
    }
    signal.addEventListener('abort', abort, { once: true })
    stream.once('error', reject)
    socket.once('open', () => {
      signal.removeEventListener('abort', abort)
      stream.off('error', reject)
      resolve()
    })
  })
  return stream
}

/** Resolves when `event` says that the socket is open. It is not read until its new owner does. */
async function opened<S extends Socket>(
  socket: S,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal
): Promise<S> {
  // A flowing socket would read for itself before its handle is taken over.
  socket.pause()
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => {
      socket.destroy(new Error('aborted'))
    }
    const ended = (): void => reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' }))
    signal.addEventListener('abort', abort, { once: true })
    socket.once('error', reject)
    socket.once('close', ended)
    socket.once(event, () => {
      signal.removeEventListener('abort', abort)
      socket.off('error', reject)
      socket.off('close', ended)
      resolve()
    })
  })
  return socket
}
