/** A client as the flags of `motemq pub` and `motemq sub` want it, and how it ends: Mosquitto's words and exit codes. */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { rootCertificates } from 'node:tls'
import type { ClientEnd, ClientOptions, Trace } from '../client/client-options.ts'
import type { ClientWill } from '../client/packets.ts'
import type { Target } from '../client/target.ts'
import type { TlsFields } from '../client/transport.ts'
import { PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL } from '../mqtt/codec/packet-types.ts'
import { Sockets } from '../net/socket.ts'
import type { ClientFlags, TlsFlags } from './mosquitto-config.ts'
import { REASON_TEXTS, RETURN_CODE_TEXTS } from './mosquitto-texts.ts'

const CONNECT_TIMEOUT_MS = 60_000
const PACKET_BYTES_MAX = 268_435_460
const OUTPUT_BYTES_MAX = 1024 * 1024
const SYSTEM_CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
const ID_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
const TLS_VERSIONS: Readonly<Record<string, NonNullable<TlsFields['version']>>> = {
  'tlsv1.1': 'TLSv1.1',
  'tlsv1.2': 'TLSv1.2',
  'tlsv1.3': 'TLSv1.3'
}

/** Exit codes of libmosquitto's errors. */
export const EXIT = {
  failed: 1,
  protocol: 2,
  connectionLost: 7,
  tls: 8,
  keepalive: 19,
  timeout: 27
} as const

/** It could not begin: printed as it is. */
export class ClientFailure extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ClientFailure'
  }
}

/** Everything but the trace and the way back after a loss. */
export async function clientOptions(
  flags: ClientFlags,
  trace: Trace | null,
  reconnects: boolean
): Promise<ClientOptions> {
  const tls = readTls(flags.tls)
  return {
    target: await targetOf(flags, tls !== null),
    transport: { tls, bindAddress: flags.bindAddress, proxy: flags.proxy },
    version: flags.version,
    clientId: flags.id ?? (flags.version === 3 ? madeUpId() : ''),
    cleanStart: flags.cleanStart,
    keepaliveSeconds: flags.keepaliveSeconds,
    username: flags.username,
    password: flags.password === null ? null : Buffer.from(flags.password),
    will: willOf(flags),
    properties: flags.properties.connect,
    inflightMax: flags.inflightMax,
    packetBytesMax: PACKET_BYTES_MAX,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    reconnect: reconnects ? { minMs: 1_000, maxMs: 10_000, fromStart: false } : null,
    manualAcks: false,
    sockets: new Sockets({ outputBytesMax: OUTPUT_BYTES_MAX, drainTimeoutMs: 120_000 }),
    random: Math.random,
    trace
  }
}

/** As libmosquitto makes one for MQTT 3.1, which knows no empty ones. */
function madeUpId(): string {
  const letters = [...randomBytes(18)].map(byte => ID_LETTERS[byte % ID_LETTERS.length])
  return `mosq-${letters.join('')}`
}

function willOf(flags: ClientFlags): ClientWill | null {
  if (flags.willTopic === null) return null
  return {
    topic: flags.willTopic,
    payload: Buffer.from(flags.willPayload ?? ''),
    qos: Math.max(flags.willQos, 0),
    retain: flags.willRetain,
    properties: flags.properties.will
  }
}

async function targetOf(flags: ClientFlags, isSecure: boolean): Promise<Target> {
  const { target } = flags
  if (target !== null) {
    const transport = target.transport === 'tcp' && isSecure ? 'tls' : target.transport
    return { ...target, transport, port: flags.port > 0 ? flags.port : target.port }
  }
  const transport = isSecure ? 'tls' : 'tcp'
  const host = flags.host ?? 'localhost'
  if (flags.usesSrv) return { transport, path: '', ...(await lookUpService(host, isSecure)) }
  return { transport, host, port: flags.port > 0 ? flags.port : isSecure ? 8883 : 1883, path: '' }
}

/** -S: `_mqtt._tcp.host`. */
async function lookUpService(
  host: string,
  isSecure: boolean
): Promise<{ host: string; port: number }> {
  const { resolveSrv } = await import('node:dns/promises')
  try {
    const records = await resolveSrv(`_${isSecure ? 'secure-mqtt' : 'mqtt'}._tcp.${host}`)
    const best = records.sort((a, b) => a.priority - b.priority || b.weight - a.weight)[0]
    if (best !== undefined) return { host: best.name, port: best.port }
  } catch (error) {
    throw new ClientFailure(`Unable to connect (Lookup error: ${(error as Error).message}).`)
  }
  throw new ClientFailure('Unable to connect (Lookup error.).')
}

function readTls(flags: TlsFlags): TlsFields | null {
  const isWanted = flags.cafile !== null || flags.capath !== null || flags.usesSystem
  if (!isWanted && flags.psk === null) return null
  const version = flags.version === null ? null : TLS_VERSIONS[flags.version]
  if (version === undefined) {
    throw new ClientFailure('Error: Problem setting TLS options, check the options are valid.')
  }
  const psk =
    flags.psk === null
      ? null
      : { identity: flags.pskIdentity ?? '', key: Buffer.from(flags.psk, 'hex') }
  return {
    ca: authorities(flags),
    cert: flags.cert === null ? null : readPem(flags.cert),
    key: flags.key === null ? null : readPem(flags.key),
    passphrase: null,
    insecure: flags.insecure,
    ciphers: flags.ciphers,
    version,
    alpn: flags.alpn,
    psk
  }
}

function authorities(flags: TlsFlags): string[] | null {
  const found: string[] = []
  if (flags.cafile !== null) found.push(readPem(flags.cafile))
  if (flags.capath !== null) {
    const files = namesIn(flags.capath).filter(name => /\.(crt|pem|\d+)$/.test(name))
    for (const name of files) found.push(readPem(join(flags.capath, name)))
  }
  if (!flags.usesSystem) return found.length === 0 ? null : found
  try {
    return [...found, ...rootCertificates, readFileSync(SYSTEM_CERTIFICATES, 'utf8')]
  } catch {
    // Other systems keep them elsewhere: those that Node brings along are there.
    return [...found, ...rootCertificates]
  }
}

function readPem(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new ClientFailure(
      `Error: Problem setting TLS options: File not found. (${(error as Error).message})`
    )
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    throw new ClientFailure(`Error: Problem setting TLS options: ${(error as Error).message}`)
  }
}

export interface Verdict {
  readonly exitCode: number
  readonly lines: readonly string[]
}

/** What the end of a connection means; nobody wanted it. */
export function verdictOf(end: ClientEnd, flags: ClientFlags): Verdict {
  switch (end.kind) {
    case 'done':
      return { exitCode: 0, lines: [] }
    case 'refused':
      return { exitCode: end.code, lines: [`Connection error: ${refusalText(end, flags)}`] }
    case 'unreachable':
      return {
        exitCode: isOfTls(end) ? EXIT.tls : EXIT.failed,
        lines: [unreachableText(end)]
      }
    case 'timeout': {
      const exitCode = end.text.includes('ping') ? EXIT.keepalive : EXIT.failed
      return { exitCode, lines: [`Error: ${end.text}`] }
    }
    case 'dismissed':
      return { exitCode: end.code, lines: [`Error: disconnected: ${reasonText(end.code)}`] }
    case 'protocol':
      return { exitCode: EXIT.protocol, lines: [`Error: protocol error: ${end.text}`] }
    default:
      return { exitCode: EXIT.connectionLost, lines: ['Error: The connection was lost.'] }
  }
}

function refusalText(end: ClientEnd, flags: ClientFlags): string {
  if (flags.version === 5) return reasonText(end.code)
  return RETURN_CODE_TEXTS[end.code] ?? 'Connection Refused: unknown reason.'
}

export function reasonText(code: number): string {
  return REASON_TEXTS[code] ?? `reason code ${code}`
}

/** The handshake failed; a certificate that we do not trust is no connection at all, with 1. */
function isOfTls({ errno }: ClientEnd): boolean {
  return errno === 'EPROTO' || errno.startsWith('ERR_SSL_')
}

function unreachableText(end: ClientEnd): string {
  if (end.errno === 'ENOTFOUND' || end.errno === 'EAI_AGAIN') {
    return 'Unable to connect (Lookup error.).'
  }
  if (end.errno === 'ECONNREFUSED') return 'Error: Connection refused'
  return `Error: ${end.text}`
}

/** Mosquitto's debug lines for acknowledgements and pings; `say` writes one. */
export function tracer(flags: ClientFlags, say: (line: string) => void): Trace | null {
  if (!flags.isDebug) return null
  const names = new Map([
    [PUBACK, 'PUBACK'],
    [PUBREC, 'PUBREC'],
    [PUBREL, 'PUBREL'],
    [PUBCOMP, 'PUBCOMP'],
    [PINGREQ, 'PINGREQ'],
    [PINGRESP, 'PINGRESP']
  ])
  return (isSent, type, packetId, reason) => {
    const name = names.get(type)
    const isPing = type === PINGREQ || type === PINGRESP
    const hasReason = isSent
      ? type === PUBACK || type === PUBREC
      : type === PUBACK || type === PUBCOMP
    if (isPing) say(`${isSent ? 'sending' : 'received'} ${name}`)
    else if (isSent) say(`sending ${name} (m${packetId}${hasReason ? `, rc${reason}` : ''})`)
    else say(`received ${name} (Mid: ${packetId}${hasReason ? `, RC:${reason}` : ''})`)
  }
}
