/** Where a broker is: `mqtt://`, `mqtts://`, `ws://`, `wss://` and `mqtt+unix://` URLs. */

export type Transport = 'tcp' | 'tls' | 'ws' | 'wss' | 'unix'

export interface Target {
  readonly transport: Transport
  readonly host: string
  readonly port: number
  /** Of a Unix socket its file; of a WebSocket the path of its URL, `/mqtt` by default. */
  readonly path: string
}

/** What else a URL says. */
export interface TargetUrl {
  readonly target: Target
  readonly username: string | null
  readonly password: string | null
  /** Behind the host's slash, as `mosquitto_pub -L` takes it; '' when there is none. */
  readonly topic: string
}

const SCHEMES: Readonly<Record<string, Transport>> = {
  mqtt: 'tcp',
  tcp: 'tcp',
  mqtts: 'tls',
  ssl: 'tls',
  ws: 'ws',
  wss: 'wss',
  'mqtt+unix': 'unix',
  unix: 'unix'
}
const PORTS: Readonly<Record<Transport, number>> = {
  tcp: 1883,
  tls: 8883,
  ws: 80,
  wss: 443,
  unix: 0
}

/** A string is what is wrong with the URL. */
export function parseTarget(url: string): TargetUrl | string {
  const head = /^([a-z0-9+]+):\/\/(.*)$/is.exec(url)
  const transport = SCHEMES[head?.[1]?.toLowerCase() ?? '']
  if (head === null || transport === undefined) return 'unsupported URL scheme'
  const rest = head[2]!
  if (transport === 'unix') {
    const target: Target = { transport, host: '', port: 0, path: rest }
    return rest === '' ? 'no path of a Unix socket' : { ...NOBODY, target, topic: '' }
  }
  // The last `@` before the path ends the credentials: a password may have one.
  const parts = /^(?:([^/]*)@)?(\[[^\]]*\]|[^/:]*)(?::(\d*))?(?:\/(.*))?$/s.exec(rest)
  if (parts === null) return 'malformed URL'
  const [, login, hostText = '', portText = '', path = ''] = parts
  const host = hostText.replace(/^\[(.*)\]$/, '$1')
  const port = portText === '' ? PORTS[transport] : Number(portText)
  if (host === '') return 'no host'
  if (port < 1 || port > 65_535) return 'no port from 1 to 65535'
  const isWeb = transport === 'ws' || transport === 'wss'
  const target: Target = { transport, host, port, path: isWeb ? `/${path || 'mqtt'}` : '' }
  return { target, ...credentials(login), topic: isWeb ? '' : path }
}

const NOBODY = { username: null, password: null }

function credentials(login: string | undefined): {
  username: string | null
  password: string | null
} {
  if (login === undefined) return NOBODY
  const colon = login.indexOf(':')
  if (colon < 0) return { username: decoded(login), password: null }
  return { username: decoded(login.slice(0, colon)), password: decoded(login.slice(colon + 1)) }
}

/** `%25`, `%3A`, `%40` and the like; what is no escape stays. */
function decoded(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16))
  )
}
