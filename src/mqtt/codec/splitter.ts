/**
 * Finds the packets in what a client sends, however it is cut into reads, and refuses what must not be
 * read any further: a wrong first byte at that byte, a length over the limit at the length. A packet
 * that arrived whole is handed on in place; the beginning of one that did not is copied once, into a
 * buffer that grows with what arrives, never with what is announced.
 */
import { MALFORMED, PACKET_TOO_LARGE, PROTOCOL_ERROR, ProtocolError } from './protocol-error.ts'

export interface PacketHandler {
  /**
   * One packet: its first byte, its body `buffer[start..end)`, a view for this call. False: take no
   * more until `Splitter.resume`.
   */
  onPacket(first: number, buffer: Buffer, start: number, end: number): boolean
}

const HEADER_BYTES_MAX = 5
const NONE = Buffer.alloc(0)

/** For each first byte the reason to refuse it, 0 = allowed. */
function firstBytes(version: number): Uint8Array {
  const reasons = new Uint8Array(256).fill(MALFORMED)
  if (version === 0) {
    // Flags mean nothing in a CONNECT of 3.1, so that its version is read first; 0x16 is how TLS begins.
    for (let flags = 0; flags < 16; flags++) if ((flags & 6) !== 6) reasons[0x10 | flags] = 0
    return reasons
  }
  // A second CONNECT [MQTT-3.1.0-2] and what only a server sends (v5 §4.13).
  for (const first of [0x10, 0x20, 0x90, 0xb0, 0xd0]) reasons[first] = PROTOCOL_ERROR
  for (let flags = 0; flags < 16; flags++) {
    const qos = (flags >> 1) & 3
    const isDup = (flags & 8) !== 0
    // [MQTT-3.3.1-4], [MQTT-3.3.1-2]
    if (qos !== 3 && !(isDup && qos === 0)) reasons[0x30 | flags] = 0
  }
  // [MQTT-2.2.2-2]: PUBREL, SUBSCRIBE and UNSUBSCRIBE carry 0010, the rest 0000.
  for (const first of [0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0]) reasons[first] = 0
  if (version === 3) allowAnyFlags(reasons)
  if (version === 5) reasons[0xf0] = 0
  return reasons
}

/** The same for what a server sends to a client of ours. */
export function serverFirstBytes(version: number): Uint8Array {
  const reasons = new Uint8Array(256).fill(MALFORMED)
  for (let flags = 0; flags < 16; flags++) {
    if ((flags & 6) !== 6) reasons[0x30 | flags] = 0
  }
  for (const first of [0x20, 0x40, 0x50, 0x62, 0x70, 0x90, 0xb0, 0xd0]) reasons[first] = 0
  if (version === 3) reasons[0x6a] = 0
  if (version === 5) for (const first of [0xe0, 0xf0]) reasons[first] = 0
  return reasons
}

/** MQTT 3.1 (§2.1) has DUP and QoS in all of these, and forbids no value: so do devices that speak it. */
function allowAnyFlags(reasons: Uint8Array): void {
  for (const type of [0x40, 0x50, 0x60, 0x70, 0x80, 0xa0, 0xc0]) reasons.fill(0, type, type + 16)
  reasons.fill(0, 0x38, 0x3a)
}

const BEFORE_CONNECT = firstBytes(0)
const DURING_AUTHENTICATION = firstBytes(0).fill(PROTOCOL_ERROR)
DURING_AUTHENTICATION[0xe0] = 0
DURING_AUTHENTICATION[0xf0] = 0
const BY_VERSION = [BEFORE_CONNECT, NONE, NONE, firstBytes(3), firstBytes(4), firstBytes(5)]

export class Splitter {
  /** The largest packet, header included, bytes. */
  packetBytesMax: number
  private readonly handler: PacketHandler
  private allowed: Uint8Array
  /** What arrived of an unfinished packet, or everything since `onPacket` said no. */
  private rest: Buffer
  private restEnd: number
  /** Bytes that the unfinished packet in `rest` needs; 0 while its header is unfinished. */
  private needed: number
  private isHalted: boolean
  /** The packet in hand is to be handed on again. */
  private isPostponed: boolean
  private isClosed: boolean

  constructor(handler: PacketHandler, packetBytesMax: number, allowed = BEFORE_CONNECT) {
    this.packetBytesMax = packetBytesMax
    this.handler = handler
    this.allowed = allowed
    this.rest = NONE
    this.restEnd = 0
    this.needed = 0
    this.isHalted = false
    this.isPostponed = false
    this.isClosed = false
  }

  /** Bytes of memory held for what is unfinished. */
  get bufferedBytes(): number {
    return this.rest.length
  }

  /** After CONNECT: which packets its version knows. */
  setVersion(version: number): void {
    this.allowed = BY_VERSION[version] ?? BEFORE_CONNECT
  }

  /** Between a CONNECT that names an authentication method and its CONNACK: AUTH and DISCONNECT [MQTT-3.1.2-30]. */
  allowAuthentication(): void {
    this.allowed = DURING_AUTHENTICATION
  }

  /** Takes what was read. Throws a `ProtocolError`; then nothing more may be pushed. */
  push(buffer: Buffer, start: number, end: number): void {
    if (this.isHalted) {
      this.keep(buffer, start, end)
      return
    }
    if (this.restEnd > 0) {
      start = this.finish(buffer, start, end)
      if (start < 0) return
    }
    this.split(buffer, start, end)
  }

  /** Keeps what comes, until `resume`. */
  halt(): void {
    this.isHalted = true
  }

  /** From within `onPacket`, which then says no: that packet is not taken, it comes again with `resume`. */
  postpone(): void {
    this.isPostponed = true
  }

  /** Goes on after `onPacket` said no. */
  resume(): void {
    if (!this.isHalted) return
    this.isHalted = false
    const held = this.rest
    const end = this.restEnd
    this.forget()
    if (end > 0) this.split(held, 0, end)
  }

  /** Takes nothing more and forgets what it holds; also from within `onPacket`. */
  close(): void {
    this.isClosed = true
    this.forget()
  }

  private split(buffer: Buffer, start: number, end: number): void {
    while (start < end) {
      const first = buffer[start]!
      const reason = this.allowed[first]!
      if (reason !== 0) throw refused(first, reason)
      const bodyStart = readLength(buffer, start, end)
      if (bodyStart < 0) break
      const bodyEnd = bodyStart + length
      this.checkSize(bodyEnd - start)
      if (bodyEnd > end) {
        this.needed = bodyEnd - start
        break
      }
      const goesOn = this.handler.onPacket(first, buffer, bodyStart, bodyEnd)
      if (this.isClosed) return
      if (!goesOn) {
        this.isHalted = true
        if (!this.isPostponed) start = bodyEnd
        this.isPostponed = false
        break
      }
      start = bodyEnd
    }
    if (start < end) this.keep(buffer, start, end)
  }

  /** Completes the packet in `rest`; returns where the next one starts, -1 when nothing is left. */
  private finish(buffer: Buffer, start: number, end: number): number {
    while (this.needed === 0) {
      // The header came in pieces: at most five bytes, one by one.
      if (start === end) return -1
      this.keep(buffer, start, start + 1)
      start++
      const bodyStart = readLength(this.rest, 0, this.restEnd)
      if (bodyStart < 0) continue
      this.needed = bodyStart + length
      this.checkSize(this.needed)
    }
    const take = Math.min(this.needed - this.restEnd, end - start)
    this.keep(buffer, start, start + take)
    start += take
    if (this.restEnd < this.needed) return -1
    const packet = this.rest
    const packetEnd = this.restEnd
    const bodyStart = readLength(packet, 0, packetEnd)
    this.forget()
    const goesOn = this.handler.onPacket(packet[0]!, packet, bodyStart, packetEnd)
    if (this.isClosed) return -1
    if (!goesOn) {
      this.isHalted = true
      if (this.isPostponed) this.keep(packet, 0, packetEnd)
      this.isPostponed = false
      if (start < end) this.keep(buffer, start, end)
      return -1
    }
    return start
  }

  private checkSize(bytes: number): void {
    if (bytes > this.packetBytesMax) throw new ProtocolError(PACKET_TOO_LARGE, 'packet too large')
  }

  private keep(buffer: Buffer, start: number, end: number): void {
    const total = this.restEnd + end - start
    if (total > this.rest.length) {
      // Twice what is there makes dripping bytes linear, and never more than twice what arrived.
      const wanted = Math.max(total, this.restEnd * 2)
      const bytes = this.needed > total ? Math.min(wanted, this.needed) : wanted
      const grown = Buffer.allocUnsafeSlow(
        Math.max(bytes, this.restEnd === 0 ? total : HEADER_BYTES_MAX)
      )
      this.rest.copy(grown, 0, 0, this.restEnd)
      this.rest = grown
    }
    buffer.copy(this.rest, this.restEnd, start, end)
    this.restEnd = total
  }

  private forget(): void {
    this.rest = NONE
    this.restEnd = 0
    this.needed = 0
  }
}

/** The Remaining Length that `readLength` found. */
let length = 0

/** Reads the Remaining Length behind the first byte at `start`; returns where the body starts, -1: unfinished. */
function readLength(buffer: Buffer, start: number, end: number): number {
  let at = start + 1
  if (at === end) return -1
  let byte = buffer[at++]!
  if (byte < 128) {
    length = byte
    return at
  }
  let value = byte & 127
  for (let shift = 7; shift <= 21; shift += 7) {
    if (at === end) return -1
    byte = buffer[at++]!
    value |= (byte & 127) << shift
    if (byte < 128) {
      // [MQTT-1.5.5-1]: the shortest form only.
      if (byte === 0) throw new ProtocolError(MALFORMED, 'remaining length not minimal')
      length = value
      return at
    }
  }
  throw new ProtocolError(MALFORMED, 'remaining length over four bytes')
}

function refused(first: number, reason: number): ProtocolError {
  return new ProtocolError(reason, `unexpected first byte 0x${first.toString(16).padStart(2, '0')}`)
}
