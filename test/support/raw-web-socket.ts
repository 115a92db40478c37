/** A WebSocket client of bytes (RFC 6455): sends frames as wrong as it is told, and hands out the frames that come. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { RawInput } from './raw-input.ts'

const NOTHING = Buffer.alloc(0)
const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
/** What the key must be answered with (RFC 6455 §1.3). */
export const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='

export const CONTINUATION = 0
export const TEXT = 1
export const BINARY = 2
export const CLOSE = 8
export const PING = 9
export const PONG = 10

export interface Frame {
  readonly opcode: number
  readonly isFinal: boolean
  readonly payload: Buffer
}

export interface FrameOptions {
  /** Default true. */
  readonly isFinal?: boolean
  readonly isMasked?: boolean
  /** The three reserved bits. */
  readonly reserved?: number
  /** What the header says instead of the length. */
  readonly length?: number
}

export function frame(
  opcode: number,
  payload: Uint8Array | string = '',
  options: FrameOptions = {}
): Buffer {
  const body = Buffer.from(payload as string)
  const { isFinal = true, isMasked = true, reserved = 0, length = body.length } = options
  const first = (isFinal ? 128 : 0) | (reserved << 4) | opcode
  const maskBit = isMasked ? 128 : 0
  const head: number[] = [first]
  if (length < 126) head.push(maskBit | length)
  else if (length < 65_536) head.push(maskBit | 126, length >> 8, length & 255)
  else {
    const size = Buffer.alloc(8)
    size.writeBigUInt64BE(BigInt(length))
    head.push(maskBit | 127, ...size)
  }
  if (!isMasked) return Buffer.concat([Buffer.from(head), body])
  const mask = [1, 2, 3, 4]
  for (let i = 0; i < body.length; i++) body[i]! ^= mask[i & 3]!
  return Buffer.concat([Buffer.from([...head, ...mask]), body])
}

export interface Upgrade {
  readonly port: number
  readonly path: string
  readonly method: string
  /** Null: the header is left out. */
  readonly headers: Readonly<Record<string, string | null>>
  /** Sent before the request, and in one go with it. */
  readonly before: Uint8Array | string
  /** The request comes so much later. */
  readonly beforeMs: number
  readonly behind: Uint8Array
}

export class RawWebSocket {
  readonly socket: Socket
  /** 101 when it is one. */
  status = 0
  /** Names in lower case. */
  readonly headers = new Map<string, string>()
  readonly #input: RawInput
  /** Of binary messages, not yet taken. */
  #bytes = Buffer.alloc(0)

  private constructor(socket: Socket) {
    this.socket = socket
    this.#input = new RawInput(socket)
  }

  static async open(part: Partial<Upgrade> & { port: number }): Promise<RawWebSocket> {
    const { port, path = '/mqtt', method = 'GET', headers = {} } = part
    const { before = '', beforeMs = 0, behind = NOTHING } = part
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    const client = new RawWebSocket(socket)
    const all: Record<string, string | null> = {
      Host: 'localhost',
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': KEY,
      'Sec-WebSocket-Protocol': 'mqtt',
      ...headers
    }
    const lines = Object.entries(all).flatMap(([name, value]) =>
      value === null ? [] : [`${name}: ${value}\r\n`]
    )
    const request = Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
    const first = Buffer.from(before as string)
    if (beforeMs > 0) {
      socket.write(first)
      await new Promise(resolve => setTimeout(resolve, beforeMs))
    }
    socket.write(Buffer.concat([beforeMs > 0 ? NOTHING : first, request, behind]))
    await client.#readHead()
    return client
  }

  send(...parts: Uint8Array[]): void {
    this.socket.write(Buffer.concat(parts))
  }

  /** Null: it was closed. */
  async nextFrame(): Promise<Frame | null> {
    for (;;) {
      const found = this.#takeFrame()
      if (found !== null) return found
      if (this.#input.isClosed) return null
      await this.#input.more()
    }
  }

  /** The code of the close frame that comes next, 0 without one; binary messages before it are kept. */
  async closeCode(): Promise<number> {
    for (;;) {
      const next = await this.nextFrame()
      if (next === null) return 0
      if (next.opcode === CLOSE)
        return next.payload.length === 0 ? 1005 : next.payload.readUInt16BE(0)
      if (next.opcode === BINARY) this.#bytes = Buffer.concat([this.#bytes, next.payload])
    }
  }

  /** So many bytes of what binary messages hold. */
  async read(count: number): Promise<Buffer> {
    while (this.#bytes.length < count) {
      const next = await this.nextFrame()
      if (next === null) throw new Error(`closed behind ${this.#bytes.toString('hex')}`)
      if (next.opcode === BINARY) this.#bytes = Buffer.concat([this.#bytes, next.payload])
    }
    const taken = this.#bytes.subarray(0, count)
    this.#bytes = this.#bytes.subarray(count)
    return taken
  }

  /** What binary messages held before the close frame was seen. */
  get unread(): Buffer {
    return this.#bytes
  }

  /** Resolves when the other end has closed. */
  async closed(): Promise<void> {
    while (!this.#input.isClosed) await this.#input.more()
  }

  destroy(): void {
    this.socket.destroy()
  }

  async #readHead(): Promise<void> {
    let end = -1
    while ((end = this.#input.bytes.indexOf('\r\n\r\n')) === -1) {
      if (this.#input.isClosed) return
      await this.#input.more()
    }
    const [first = '', ...lines] = this.#input.bytes.toString('latin1', 0, end).split('\r\n')
    this.#input.take(end + 4)
    this.status = Number(first.split(' ')[1])
    for (const line of lines) {
      const [name = '', value = ''] = line.split(': ')
      this.headers.set(name.toLowerCase(), value)
    }
  }

  #takeFrame(): Frame | null {
    const input = this.#input.bytes
    if (input.length < 2) return null
    let length = input[1]! & 127
    let at = 2
    if (length === 126) {
      if (input.length < 4) return null
      length = input.readUInt16BE(2)
      at = 4
    } else if (length === 127) {
      if (input.length < 10) return null
      length = Number(input.readBigUInt64BE(2))
      at = 10
    }
    if (input.length < at + length) return null
    const payload = input.subarray(at, at + length)
    this.#input.take(at + length)
    return { opcode: input[0]! & 15, isFinal: input[0]! > 127, payload }
  }
}
