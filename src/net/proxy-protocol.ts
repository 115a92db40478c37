/**
 * The PROXY protocol, versions 1 and 2: a load balancer says in front of a connection's first byte whose connection it
 * is. Taken from named addresses only, and then a must: who could do without would choose its own address. What version
 * 2 adds behind the addresses (TLVs, those about TLS included) is skipped.
 */
import { isIP, type Socket, SocketAddress } from 'node:net'
import { AddressRanges, plainAddress } from '../lib/address-range.ts'
import type { Arrival, Remote, Stage } from './arrival.ts'

const V1 = Buffer.from('PROXY ')
const V1_BYTES_MAX = 107
const V2 = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const V2_HEAD_BYTES = 16
/** What fits into the smallest TCP segment that every host takes. */
const V2_BYTES_MAX = 536
const PORT = /^(?:0|[1-9]\d{0,4})$/

/** Address bytes of version 2 by its family byte; -1: no such family. */
const V2_ADDRESS_BYTES: Readonly<Record<number, number>> = {
  0: 0,
  17: 12,
  18: 12,
  33: 36,
  34: 36,
  49: 216,
  50: 216
}

export type ProxyHeader =
  | { readonly kind: 'more' }
  | { readonly kind: 'bad'; readonly why: string }
  /** `remote` null: the proxy's own connection, or one of a kind that has no address. */
  | { readonly kind: 'done'; readonly bytes: number; readonly remote: Remote | null }

const MORE: ProxyHeader = { kind: 'more' }
const bad = (why: string): ProxyHeader => ({ kind: 'bad', why: `PROXY header: ${why}` })

/** Every connection must come from one of `from` and begin with a header. */
export function proxyStage(from: readonly string[]): Stage {
  const ranges = new AddressRanges(from)
  return arrival => {
    arrival.isProxied = true
    if (ranges.includes(arrival.socket.remoteAddress)) readHeader(arrival)
    else arrival.refuse('not one of the addresses that the PROXY protocol is taken from')
  }
}

function readHeader(arrival: Arrival): void {
  const { socket } = arrival
  let head: Buffer = Buffer.alloc(0)
  const onData = (chunk: Buffer) => {
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk])
    const header = parseProxyHeader(head)
    if (header.kind === 'more') {
      arrival.hold(head.length)
      return
    }
    socket.off('data', onData)
    socket.off('end', onEnd)
    stopReading(socket)
    if (header.kind === 'bad') {
      arrival.refuse(header.why)
      return
    }
    arrival.hold(0)
    arrival.remote = header.remote
    if (head.length > header.bytes) socket.unshift(head.subarray(header.bytes))
    arrival.next()
  }
  const onEnd = () => {
    if (head.length > 0) arrival.refuse('PROXY header: cut short')
  }
  socket.on('data', onData)
  socket.on('end', onEnd)
  socket.resume()
}

/** `pause` alone lets Node read on into the stream's buffer, which whoever takes the handle over does not see. */
function stopReading(socket: Socket): void {
  socket.pause()
  const handle = (socket as unknown as { _handle: Reader | null })._handle
  if (handle === null) return
  handle.reading = false
  handle.readStop()
}

interface Reader {
  reading: boolean
  readStop(): void
}

/** Looks at the first bytes of a connection, as far as they have come. */
export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (isBeginningOf(V1, bytes)) return parseV1(bytes)
  if (isBeginningOf(V2, bytes)) return parseV2(bytes)
  return bad('does not begin with one')
}

function isBeginningOf(signature: Buffer, bytes: Buffer): boolean {
  const length = Math.min(signature.length, bytes.length)
  return signature.compare(bytes, 0, length, 0, length) === 0
}

function parseV1(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, V1_BYTES_MAX).indexOf('\r\n')
  if (end === -1) {
    return bytes.length < V1_BYTES_MAX ? MORE : bad(`longer than ${V1_BYTES_MAX} bytes`)
  }
  const length = end + 2
  const [, family = '', ...fields] = bytes.toString('latin1', 0, end).split(' ')
  if (family === 'UNKNOWN') return { kind: 'done', bytes: length, remote: null }
  const version = family === 'TCP4' ? 4 : family === 'TCP6' ? 6 : 0
  if (version === 0) return bad('an unknown family')
  const [source = '', target = '', sourcePort = '', targetPort = ''] = fields
  if (fields.length !== 4) return bad('not two addresses and two ports')
  if (!isAddress(source, version) || !isAddress(target, version)) return bad('no address')
  if (!isPort(sourcePort) || !isPort(targetPort)) return bad('no port')
  const remote = { address: canonical(source), port: Number(sourcePort) }
  return { kind: 'done', bytes: length, remote }
}

function isAddress(text: string, version: number): boolean {
  return isIP(text) === version && !text.includes('%')
}

function isPort(text: string): boolean {
  return PORT.test(text) && Number(text) <= 65_535
}

function parseV2(bytes: Buffer): ProxyHeader {
  if (bytes.length < V2_HEAD_BYTES) return MORE
  const command = bytes[12]!
  if (command !== 0x20 && command !== 0x21) return bad('an unknown version or command')
  const family = bytes[13]!
  const addressBytes = V2_ADDRESS_BYTES[family]
  if (addressBytes === undefined) return bad('an unknown family')
  const length = V2_HEAD_BYTES + bytes.readUInt16BE(14)
  if (length > V2_BYTES_MAX) return bad(`longer than ${V2_BYTES_MAX} bytes`)
  if (bytes.length < length) return MORE
  // LOCAL: the proxy asks on its own behalf, and the rest means nothing.
  if (command === 0x20) return { kind: 'done', bytes: length, remote: null }
  if (length < V2_HEAD_BYTES + addressBytes) return bad('shorter than its addresses')
  if (!areTlvsWhole(bytes, V2_HEAD_BYTES + addressBytes, length)) return bad('a TLV is cut short')
  return { kind: 'done', bytes: length, remote: remoteOfV2(bytes, addressBytes) }
}

function areTlvsWhole(bytes: Buffer, start: number, end: number): boolean {
  while (start + 3 <= end) start += 3 + bytes.readUInt16BE(start + 1)
  return start === end
}

function remoteOfV2(bytes: Buffer, addressBytes: number): Remote | null {
  if (addressBytes === 12) {
    const address = bytes.subarray(16, 20).join('.')
    return { address, port: bytes.readUInt16BE(24) }
  }
  if (addressBytes === 36) {
    const groups: string[] = []
    for (let at = 16; at < 32; at += 2) groups.push(bytes.readUInt16BE(at).toString(16))
    return { address: canonical(groups.join(':')), port: bytes.readUInt16BE(48) }
  }
  return null
}

/** One way to write an address: login pauses count by it. */
function canonical(address: string): string {
  if (isIP(address) === 4) return address
  return plainAddress(new SocketAddress({ address, family: 'ipv6' }).address)
}
