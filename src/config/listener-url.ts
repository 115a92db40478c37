/** Listener URLs: `mqtt://127.0.0.1:1883`, `amqp://[::1]:5672?vhost=/x`, `http://localhost:15672`. */
import { isIP } from 'node:net'
import { suggest } from '../lib/suggest.ts'
import { shown } from './mistake.ts'

export type ListenerScheme = 'mqtt' | 'amqp' | 'http' | 'metrics'

export interface ListenerOption {
  /** As a user would write it, without the query. */
  readonly url: string
  readonly scheme: ListenerScheme
  /** An address or name without brackets. */
  readonly host: string
  /** 0: any free one. */
  readonly port: number
  /** Only this machine can reach it. */
  readonly isLoopback: boolean
  /** Written down that it may be open to everybody. */
  readonly insecure: boolean
  /** '' for the default one. */
  readonly vhost: string
  /** Left out, with a line in the log, when this machine does not have the address. */
  readonly isOptional: boolean
}

export type ListenerUrl =
  | { readonly ok: true; readonly listeners: readonly ListenerOption[] }
  | { readonly ok: false; readonly why: string }

export const DEFAULT_PORTS: Readonly<Record<ListenerScheme, number>> = {
  mqtt: 1883,
  amqp: 5672,
  http: 15672,
  metrics: 15692
}
const NOT_YET: readonly string[] = [
  'mqtts',
  'ws',
  'wss',
  'amqps',
  'https',
  'mqtt+unix',
  'amqp+unix',
  'http+unix'
]

const bad = (why: string): ListenerUrl => ({ ok: false, why })

/** What is listened on when nothing is configured: loopback only. */
export function defaultListeners(): readonly ListenerOption[] {
  const found: ListenerOption[] = []
  for (const scheme of ['mqtt', 'amqp', 'http'] as const) {
    const parsed = parseListenerUrl(`${scheme}://localhost`)
    if (parsed.ok) found.push(...parsed.listeners)
  }
  return found
}

/** Reads a URL. `localhost` stands for 127.0.0.1 and, where the machine has it, ::1. */
export function parseListenerUrl(url: string, insecure = false, vhost = ''): ListenerUrl {
  const head = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/.exec(url.trim())
  if (head === null) return bad(`${shown(url)} is no URL such as mqtt://127.0.0.1:1883`)
  const scheme = head[1]!.toLowerCase()
  if (NOT_YET.includes(scheme)) {
    return bad(`${shown(url)}: this version does not serve ${scheme}:// yet`)
  }
  if (!isScheme(scheme)) {
    const near = suggest(scheme, Object.keys(DEFAULT_PORTS))
    const hint = near === null ? 'known are mqtt, amqp, http and metrics' : `did you mean ${near}?`
    return bad(`${shown(url)}: ${scheme}:// is not known; ${hint}`)
  }
  const rest = /^(?:(.*)@)?(\[[^\]]*\]|[^/?#:@]*)(?::([^/?#]*))?(\/[^?#]*)?(?:\?([^#]*))?$/.exec(
    head[2]!
  )
  if (rest === null) return bad(`${shown(url)} is no URL such as ${scheme}://127.0.0.1:1883`)
  if (rest[1] !== undefined) return bad(`${shown(url)}: a listener has no user or password`)
  if (rest[4] !== undefined && rest[4] !== '/') {
    return bad(`${shown(url)}: an ${scheme}:// listener has no path`)
  }
  const host = readHost(rest[2]!)
  if (host === null) {
    return bad(
      `${shown(url)} has no host; write 127.0.0.1 for this machine, 0.0.0.0 for every IPv4 address, [::] for every address`
    )
  }
  const port = rest[3] === undefined ? DEFAULT_PORTS[scheme] : readPort(rest[3])
  if (port === null) return bad(`${shown(url)}: the port is no number from 0 to 65535`)
  const query = readQuery(url, rest[5] ?? '', insecure, vhost)
  if (typeof query === 'string') return bad(query)
  return { ok: true, listeners: expand(scheme, host, port, query.insecure, query.vhost) }
}

function isScheme(scheme: string): scheme is ListenerScheme {
  return Object.hasOwn(DEFAULT_PORTS, scheme)
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

function readQuery(
  url: string,
  query: string,
  insecure: boolean,
  vhost: string
): { insecure: boolean; vhost: string } | string {
  for (const [key, value] of new URLSearchParams(query)) {
    if (key === 'insecure' && (value === 'true' || value === 'false')) insecure = value === 'true'
    else if (key === 'vhost' && value !== '') vhost = value
    else
      return `${shown(url)}: ${shown(`${key}=${value}`)} is not known; known are insecure=true and vhost=NAME`
  }
  return { insecure, vhost }
}

function expand(
  scheme: ListenerScheme,
  host: string,
  port: number,
  insecure: boolean,
  vhost: string
): ListenerOption[] {
  const one = (address: string, isOptional: boolean): ListenerOption => ({
    url: `${scheme}://${isIP(address) === 6 || address.includes(':') ? `[${address}]` : address}:${port}`,
    scheme,
    host: address,
    port,
    isLoopback: isLoopbackAddress(address),
    insecure,
    vhost,
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
