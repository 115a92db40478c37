/** An MQTT client of bytes: sends what it is told, and hands out the packets that come, one by one. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { RawInput } from './raw-input.ts'
import mqttPacket, { type IConnectPacket, type Packet } from 'mqtt-packet'

export type Bytes = string | number[] | Uint8Array

/** `'82 00 01'` is hexadecimal. */
export function bytes(...parts: Bytes[]): Buffer {
  return Buffer.concat(
    parts.map(part =>
      typeof part === 'string' ? Buffer.from(part.replaceAll(' ', ''), 'hex') : Buffer.from(part)
    )
  )
}

/** A UTF-8 string (or bytes) behind its two bytes of length. */
export function text(value: string | Uint8Array): Buffer {
  const content = Buffer.from(value as string)
  return Buffer.concat([Buffer.from([content.length >> 8, content.length & 255]), content])
}

/** A fixed header before a body. */
export function packet(first: number, ...body: Bytes[]): Buffer {
  const content = bytes(...body)
  const head = [first]
  let length = content.length
  while (length > 127) {
    head.push((length & 127) | 128)
    length >>= 7
  }
  return Buffer.concat([Buffer.from([...head, length]), content])
}

/** Bytes before the properties, of packets that may carry a reason string. */
const PROPERTIES_AT: Readonly<Record<number, number>> = { 2: 2, 4: 3, 5: 3, 9: 2, 11: 2, 14: 1 }
const REASON_STRING = 0x1f

/** A reason string is the first property of the broker's packets. */
function withoutReasonString(whole: Buffer): Buffer {
  const first = whole[0]!
  const before = PROPERTIES_AT[first >> 4]
  let bodyAt = 1
  while (whole[bodyAt++]! > 127);
  if (before === undefined || whole.length <= bodyAt + before) return whole
  const at = bodyAt + before
  const lengthBytes = whole[at]! > 127 ? 2 : 1
  const stringAt = at + lengthBytes
  if (whole[stringAt] !== REASON_STRING || whole[at] === 0) return whole
  const bytes = (whole[at]! & 127) | (lengthBytes === 2 ? whole[at + 1]! << 7 : 0)
  const left = whole.subarray(stringAt + 3 + whole.readUInt16BE(stringAt + 1), stringAt + bytes)
  const isLengthLeftOut = left.length === 0 && [4, 5, 14].includes(first >> 4)
  const head = whole.subarray(bodyAt, at)
  const tail = whole.subarray(stringAt + bytes)
  return packet(first, head, isLengthLeftOut ? [] : [left.length], left, tail)
}

export class RawMqtt {
  readonly socket: Socket
  version: 4 | 5 = 4
  readonly #input: RawInput

  private constructor(socket: Socket) {
    this.socket = socket
    this.#input = new RawInput(socket)
  }

  static async dial(port: number): Promise<RawMqtt> {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true })
    await once(socket, 'connect')
    return new RawMqtt(socket)
  }

  /** CONNECT, clean unless told otherwise; returns the CONNACK. */
  async connect(version: 4 | 5, options: Partial<IConnectPacket> = {}): Promise<Buffer> {
    this.version = version
    this.send(
      mqttPacket.generate({
        cmd: 'connect',
        protocolId: 'MQTT',
        protocolVersion: version,
        clientId: 'raw',
        clean: true,
        keepalive: 60,
        ...options
      } as IConnectPacket)
    )
    return await this.next()
  }

  send(...parts: Bytes[]): void {
    this.socket.write(bytes(...parts))
  }

  /** The next packet without its reason string: those are looked at where they are tested. */
  async next(): Promise<Buffer> {
    const packet = await this.exact()
    return withoutReasonString(packet)
  }

  /** The next packet, as it came. */
  async exact(): Promise<Buffer> {
    return (await this.#nextOrEnd()) ?? Promise.reject(new Error('closed instead of a packet'))
  }

  /** The next packet, decoded. */
  async read(): Promise<Packet> {
    const parser = mqttPacket.parser({ protocolVersion: this.version })
    let found: Packet | undefined
    parser.on('packet', packet => {
      found = packet
    })
    parser.parse(await this.exact())
    if (found === undefined) throw new Error('no packet')
    return found
  }

  /** Resolves with the packets, as of `next`, that came before the broker closed the connection. */
  async rest(): Promise<Buffer[]> {
    const packets: Buffer[] = []
    for (;;) {
      const packet = await this.#nextOrEnd()
      if (packet === null) return packets
      packets.push(withoutReasonString(packet))
    }
  }

  /** A ping's answer is the next packet: so nothing else came, and all before was read. */
  async quiet(): Promise<void> {
    this.send('c0 00')
    const next = await this.next()
    const found = next.subarray(0, 64).toString('hex')
    if (found !== 'd000') throw new Error(`unexpected ${found}`)
  }

  destroy(): void {
    this.socket.destroy()
  }

  async #nextOrEnd(): Promise<Buffer | null> {
    const input = this.#input
    for (;;) {
      const packet = this.#take()
      if (packet !== null) return packet
      if (input.isClosed) {
        if (input.bytes.length > 0) throw new Error(`cut: ${input.bytes.toString('hex')}`)
        return null
      }
      await input.more()
    }
  }

  #take(): Buffer | null {
    const { bytes } = this.#input
    let length = 0
    for (let at = 1; at < Math.min(bytes.length, 5); at++) {
      const byte = bytes[at]!
      length += (byte & 127) * 128 ** (at - 1)
      if (byte > 127) continue
      const end = at + 1 + length
      return bytes.length < end ? null : this.#input.take(end)
    }
    return null
  }
}
