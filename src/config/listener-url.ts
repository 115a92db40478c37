/**
 * Listener URLs: `mqtt://127.0.0.1:1883`, `ws://[::1]:15675`, `amqp://localhost?vhost=/x`,
 * `mqtt+unix:///run/motemq/mqtt.sock?mode=0660`.
 */
import { isIP } from 'node:net'
import { isAddressRange } from '../lib/address-range.ts'
import { suggest } from '../lib/suggest.ts'
import { shown } from './mistake.ts'
import type { ListenerTls } from './tls-option.ts'

/** Who serves it. */
export type ListenerProtocol = 'mqtt' | 'amqp' | 'http' | 'metrics'

interface SchemeTraits {
  readonly protocol: ListenerProtocol
  /** 0: a Unix socket. */
  readonly port: number
  readonly isTls: boolean
  readonly isWebSocket: boolean
}

const traits = (protocol: ListenerProtocol, port: number, isTls = false, isWebSocket = false) => ({
  protocol,
  port,
  isTls,
  isWebSocket
})

export const SCHEMES = {
  mqtt: traits('mqtt', 1883),
  mqtts: traits('mqtt', 8883, true),
  ws: traits('mqtt', 15675, false, true),
  wss: traits('mqtt', 15676, true, true),
  amqp: traits('amqp', 5672),
  amqps: traits('amqp', 5671, true),
  http: traits('http', 15672),
  https: traits('http', 15671, true),
  metrics: traits('metrics', 15692),
  'mqtt+unix': traits('mqtt', 0),
  'ws+unix': traits('mqtt', 0, false, true),
  'amqp+unix': traits('amqp', 0),
  'http+unix': traits('http', 0)
} as const satisfies Record<string, SchemeTraits>

export type ListenerScheme = keyof typeof SCHEMES

/** What the file says of a listener beside its URL. */
export interface ListenerSettings {
  readonly insecure: boolean
  /** '' for the default one. */
  readonly vhost: string
  /** Origins of web pages that a WebSocket listener serves; null: those of `websocket.origins`. */
  readonly origins: readonly string[] | null
  /** Addresses whose connections begin with a PROXY protocol header; none: nobody's do. */
  readonly proxyFrom: readonly string[]
  /** What differs from the `tls` of all listeners; null: nothing. */
  readonly tls: ListenerTls | null
}

export interface ListenerOption extends ListenerSettings, SchemeTraits {
  /** As a user would write it, without the query. */
  readonly url: string
  readonly scheme: ListenerScheme
  /** An address or name without brackets; '' for a Unix socket. */
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** '' for TCP. */
  readonly unixPath: string
  /** Rights of the Unix socket's file. */
  readonly mode: number
  /** A WebSocket path that is served beside the usual ones; '' for none. */
  readonly path: string
  /** Only this machine can reach it. */
  readonly isLoopback: boolean
  /** Left out, with a line in the log, when this machine does not have the address. */
  readonly isOptional: boolean
}

export type ListenerUrl =
  | { readonly ok: true; readonly listeners: readonly ListenerOption[] }
  | { readonly ok: false; readonly why: string }

export const DEFAULT_SETTINGS: ListenerSettings = {
  insecure: false,
  vhost: '',
  origins: null,
  proxyFrom: [],
  tls: null
}
const DEFAULT_MODE = 0o660

const bad = (why: string): ListenerUrl => ({ ok: false, why })

/** What is listened on when nothing is configured: loopback only. */
export function defaultListeners(): readonly ListenerOption[] {
  const found: ListenerOption[] = []
  for (const scheme of ['mqtt', 'amqp', 'ws', 'http'] as const) {
    const parsed = parseListenerUrl(`${scheme}://localhost`)
    if (parsed.ok) found.push(...parsed.listeners)
  }
  return found
}

/** Reads a URL. `localhost` stands for 127.0.0.1 and, where the machine has it, ::1. */
export function parseListenerUrl(
  url: string,
  settings: Partial<ListenerSettings> = {}
): ListenerUrl {
  const head = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/.exec(url.trim())
  if (head === null) return bad(`${shown(url)} is no URL such as mqtt://127.0.0.1:1883`)
  const scheme = head[1]!.toLowerCase()
  if (!isScheme(scheme)) {
    const near = suggest(scheme, Object.keys(SCHEMES))
    const hint =
      near === null
        ? 'known are mqtt, mqtts, ws, wss, amqp, amqps, http, https and metrics'
        : `did you mean ${near}?`
    return bad(`${shown(url)}: ${scheme}:// is not known; ${hint}`)
  }
  const query = readQuery(url, scheme, /\?(.*)$/.exec(head[2]!)?.[1] ?? '', {
    ...DEFAULT_SETTINGS,
    ...settings
  })
  if (typeof query === 'string') return bad(query)
  const rest = head[2]!.split('?')[0]!
  return isUnix(scheme)
    ? unixListener(url, scheme, rest, query)
    : tcpListener(url, scheme, rest, query)
}

function tcpListener(
  url: string,
  scheme: ListenerScheme,
  text: string,
  query: QuerySettings
): ListenerUrl {
  const rest = /^(?:(.*)@)?(\[[^\]]*\]|[^/?#:@]*)(?::([^/?#]*))?(\/[^?#]*)?$/.exec(text)
  if (rest === null) return bad(`${shown(url)} is no URL such as ${scheme}://127.0.0.1:1883`)
  if (rest[1] !== undefined) return bad(`${shown(url)}: a listener has no user or password`)
  const path = rest[4] ?? ''
  if (path !== '' && path !== '/' && !SCHEMES[scheme].isWebSocket) {
    return bad(`${shown(url)}: an ${scheme}:// listener has no path`)
  }
  const host = readHost(rest[2]!)
  if (host === null) {
    return bad(
      `${shown(url)} has no host; write 127.0.0.1 for this machine, 0.0.0.0 for every IPv4 address, [::] for every address`
    )
  }
  const port = rest[3] === undefined ? SCHEMES[scheme].port : readPort(rest[3])
  if (port === null) return bad(`${shown(url)}: the port is no number from 0 to 65535`)
  return { ok: true, listeners: expand(scheme, host, port, path === '/' ? '' : path, query) }
}

function unixListener(
  url: string,
  scheme: ListenerScheme,
  text: string,
  query: QuerySettings
): ListenerUrl {
  let path: string
  try {
    path = decodeURIComponent(text)
  } catch (error) {
    if (error instanceof URIError) return bad(`${shown(url)}: the path is not encoded as in a URL`)
    throw error
  }
  if (!path.startsWith('/') || path.endsWith('/') || path.includes('\0')) {
    return bad(
      `${shown(url)} names no file; write ${scheme}:///run/motemq/${SCHEMES[scheme].protocol}.sock`
    )
  }
  const listener: ListenerOption = {
    ...SCHEMES[scheme],
    ...query,
    url: `${scheme}://${text}`,
    scheme,
    host: '',
    port: 0,
    unixPath: path,
    path: '',
    isLoopback: true,
    isOptional: false
  }
  return { ok: true, listeners: [listener] }
}

function isScheme(scheme: string): scheme is ListenerScheme {
  return Object.hasOwn(SCHEMES, scheme)
}

function isUnix(scheme: ListenerScheme): boolean {
  return scheme.endsWith('+unix')
}

function readHost(text: string): string | null {
  if (text.startsWith('[')) {
    const address = text.slice(1, -1)
    return isIP(address.split('%')[0]!) === 6 ? address : null
  }
  if (/^[\d.]+$/.test(text)) return isIP(text) === 4 ? text : null
  return /^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/.test(text) ? text.toLowerCase() : null
}

function readPort(text: string): number | null {
  if (!/^\d{1,5}$/.test(text)) return null
  const port = Number(text)
  return port <= 65_535 ? port : null
}

interface QuerySettings extends ListenerSettings {
  readonly mode: number
}

function readQuery(
  url: string,
  scheme: ListenerScheme,
  query: string,
  settings: ListenerSettings
): QuerySettings | string {
  let { insecure, vhost } = settings
  let mode = DEFAULT_MODE
  const origins = settings.origins === null ? [] : [...settings.origins]
  const proxyFrom = [...settings.proxyFrom]
  for (const [key, value] of new URLSearchParams(query)) {
    if (key === 'insecure' && (value === 'true' || value === 'false')) insecure = value === 'true'
    else if (key === 'vhost' && value !== '') vhost = value
    else if (key === 'mode' && isUnix(scheme) && /^0?[0-7]{3}$/.test(value)) {
      mode = Number.parseInt(value, 8)
    } else if (key === 'origin' && isOrigin(value)) origins.push(value)
    else if (key === 'proxyProtocol' && isAddressRange(value)) proxyFrom.push(value)
    else {
      return `${shown(url)}: ${shown(`${key}=${value}`)} is not known; known are insecure=true, vhost=NAME, mode=0660 of a Unix socket, origin=URL of a WebSocket, proxyProtocol=ADDRESS`
    }
  }
  if (origins.length > 0 && !SCHEMES[scheme].isWebSocket) {
    return `${shown(url)}: only WebSocket listeners have origins`
  }
  // Else it would look encrypted, and not be.
  if (settings.tls !== null && !SCHEMES[scheme].isTls) {
    return `${shown(url)}: a ${scheme}:// listener has no TLS, so no tls either; those with it are mqtts, wss, amqps and https`
  }
  const isListed = origins.length > 0 || settings.origins !== null
  return { insecure, vhost, origins: isListed ? origins : null, proxyFrom, mode, tls: settings.tls }
}

/** What a browser sends as Origin: `https://example.org`, `http://localhost:8080`; `null` of local files; `*` for any. */
export function isOrigin(text: string): boolean {
  return (
    text === '*' ||
    text === 'null' ||
    /^[a-z][a-z0-9+.-]*:\/\/(?:\[[0-9a-f:.]+\]|[^\s/?#@[\]:]+)(?::\d{1,5})?$/i.test(text)
  )
}

function expand(
  scheme: ListenerScheme,
  host: string,
  port: number,
  path: string,
  query: QuerySettings
): ListenerOption[] {
  const one = (address: string, isOptional: boolean): ListenerOption => ({
    ...SCHEMES[scheme],
    ...query,
    url: `${scheme}://${isIP(address) === 6 || address.includes(':') ? `[${address}]` : address}:${port}`,
    scheme,
    host: address,
    port,
    unixPath: '',
    path,
    isLoopback: isLoopbackAddress(address),
    isOptional
  })
  if (host !== 'localhost') return [one(host, false)]
  // A free port differs from address to address: with port 0 one listener is enough.
  return port === 0 ? [one('127.0.0.1', false)] : [one('127.0.0.1', false), one('::1', true)]
}

/** Whether only this machine can reach the address. A name counts as reachable by others. */
export function isLoopbackAddress(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith('127.')
  return host === '::1' || /^(0{1,4}:){7}0{0,3}1$/.test(host) || /^::ffff:127\./i.test(host)
}
