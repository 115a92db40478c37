/**
 * What a broker may send to an MQTT client: every packet in its strict form, and nothing that the client's packets
 * did not ask for. Written from the specification alone, without the broker's own codec.
 */
import { isUtf8 } from 'node:buffer'
import { parser } from 'mqtt-packet'

export interface RawPacket {
  readonly first: number
  readonly body: Buffer
}

/** Whole packets; the rest of a cut one, or what is none, is left out: `rest` says how many bytes. */
export function splitPackets(bytes: Buffer): { packets: RawPacket[]; rest: number } {
  const packets: RawPacket[] = []
  let at = 0
  while (at < bytes.length) {
    let length = 0
    let shift = 0
    let end = at + 1
    for (; end < bytes.length && shift < 28; shift += 7) {
      const byte = bytes[end++]!
      length |= (byte & 127) << shift
      if (byte < 128) break
    }
    if (end >= bytes.length + 1 || (bytes[end - 1]! > 127 && end > at + 1) || end === at + 1) break
    if (end + length > bytes.length) break
    packets.push({ first: bytes[at]!, body: bytes.subarray(end, end + length) })
    at = end + length
  }
  return { packets, rest: bytes.length - at }
}

/** One answer, as far as it is checked further. */
export interface Answer {
  readonly type: number
  readonly first: number
  /** Packet identifier, or 0. */
  readonly id: number
  readonly reason: number
  readonly topic: string
}

const NO_ID = 0
const TYPES: Readonly<
  Record<number, 'byte' | 'two' | 'four' | 'varint' | 'text' | 'bytes' | 'pair'>
> = {
  1: 'byte',
  2: 'four',
  3: 'text',
  8: 'text',
  9: 'bytes',
  11: 'varint',
  17: 'four',
  18: 'text',
  19: 'two',
  26: 'text',
  28: 'text',
  31: 'text',
  33: 'two',
  34: 'two',
  35: 'two',
  36: 'byte',
  37: 'byte',
  38: 'pair',
  39: 'four',
  40: 'byte',
  41: 'byte',
  42: 'byte'
}
const CONNACK_IDS = [17, 18, 19, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42]
const PUBLISH_IDS = [1, 2, 3, 8, 9, 11, 35, 38]
const ACK_IDS = [31, 38]

/** Reads a body to its end; throws for what may not be. */
export class Reader {
  readonly #body: Buffer
  #at = 0

  constructor(body: Buffer) {
    this.#body = body
  }

  get left(): number {
    return this.#body.length - this.#at
  }

  take(bytes: number): Buffer {
    if (this.left < bytes) throw new Error('packet cut short')
    this.#at += bytes
    return this.#body.subarray(this.#at - bytes, this.#at)
  }

  number(bytes: number): number {
    return this.take(bytes).readUIntBE(0, bytes)
  }

  text(): string {
    const bytes = this.take(this.number(2))
    if (!isUtf8(bytes) || bytes.includes(0)) throw new Error('a string that MQTT forbids')
    return bytes.toString()
  }

  varint(): number {
    let value = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.number(1)
      value += (byte & 127) * 2 ** shift
      if (byte < 128) {
        if (byte === 0 && shift > 0) throw new Error('variable byte integer not minimal')
        return value
      }
    }
    throw new Error('variable byte integer of five bytes')
  }

  /** Returns the topic alias, 0 when there is none. */
  properties(allowed: readonly number[], pairsMax = Number.POSITIVE_INFINITY): number {
    const inner = new Reader(this.take(this.varint()))
    const seen = new Set<number>()
    let pairs = 0
    let alias = 0
    while (inner.left > 0) {
      const id = inner.number(1)
      if (id === 38 && ++pairs > pairsMax) throw new Error('too many user properties')
      const type = TYPES[id]
      if (type === undefined || !allowed.includes(id)) throw new Error(`property ${id}`)
      if (seen.has(id) && id !== 38 && id !== 11) throw new Error(`property ${id} twice`)
      seen.add(id)
      if (type === 'byte') {
        if (inner.number(1) > 1) throw new Error(`value of property ${id}`)
      } else if (type === 'two') {
        const value = inner.number(2)
        if (id === 35 && value === 0) throw new Error('topic alias 0')
        if (id === 35) alias = value
      } else if (type === 'four') inner.number(4)
      else if (type === 'varint') {
        if (inner.varint() === 0) throw new Error('subscription identifier 0')
      } else if (type === 'bytes') inner.take(inner.number(2))
      else {
        const value = inner.text()
        if (id === 8 && (value === '' || /[#+]/.test(value)))
          throw new Error('response topic with a wildcard')
        if (type === 'pair') inner.text()
      }
    }
    return alias
  }

  end(): void {
    if (this.left > 0) throw new Error(`${this.left} bytes behind the end`)
  }
}

/** Throws when the packet is not as the broker must write it for this version. */
export function readAnswer(
  { first, body }: RawPacket,
  version: number,
  aliases: Map<number, string> = new Map()
): Answer {
  const reader = new Reader(body)
  const type = first >> 4
  const isVersion5 = version === 5
  if (type !== 3 && first !== (type << 4) + (type === 6 ? 2 : 0)) throw new Error(`flags ${first}`)
  const answer = { type, first, id: NO_ID, reason: 0, topic: '' }
  switch (type) {
    case 2: {
      const flags = reader.number(1)
      answer.reason = reader.number(1)
      if (flags > 1 || (flags === 1 && answer.reason > 0)) throw new Error('flags of CONNACK')
      if (isVersion5) reader.properties(CONNACK_IDS)
      else if (answer.reason > 5) throw new Error('return code of CONNACK')
      break
    }
    case 3:
      answer.topic = reader.text()
      if ((first & 6) === 6 || ((first & 6) === 0 && (first & 8) !== 0)) throw new Error('QoS')
      if ((first & 6) !== 0) answer.id = reader.number(2)
      if ((first & 6) !== 0 && answer.id === 0) throw new Error('packet identifier 0')
      if (isVersion5) {
        const alias = reader.properties(PUBLISH_IDS)
        if (answer.topic === '') answer.topic = aliases.get(alias) ?? ''
        else if (alias > 0) aliases.set(alias, answer.topic)
      }
      if (answer.topic === '' || /[#+]/.test(answer.topic)) throw new Error('topic of a PUBLISH')
      reader.take(reader.left)
      break
    case 4:
    case 5:
    case 6:
    case 7:
      answer.id = reader.number(2)
      if (isVersion5 && reader.left > 0) answer.reason = reader.number(1)
      if (isVersion5 && reader.left > 0) reader.properties(ACK_IDS)
      break
    case 9:
    case 11:
      answer.id = reader.number(2)
      if (isVersion5) reader.properties(ACK_IDS)
      if (type === 9 || isVersion5) {
        if (reader.left === 0) throw new Error('no codes')
        for (const code of reader.take(reader.left)) {
          if (code > 2 && code < 0x80 && code !== 0x11) throw new Error(`code ${code}`)
          if (!isVersion5 && code > 0x80) throw new Error(`code ${code}`)
        }
      }
      break
    case 13:
      break
    case 14:
      if (!isVersion5) throw new Error('DISCONNECT to an older client')
      if (reader.left > 0) answer.reason = reader.number(1)
      if (reader.left > 0) reader.properties([17, 28, 31, 38])
      break
    default:
      throw new Error(`packet type ${type} from a broker`)
  }
  reader.end()
  return answer
}

/** What a client has sent, as far as its bytes can be read. */
class Sent {
  version = 0
  /** QoS 1 and 2 PUBLISHes in order, `1:7` for QoS 1 with the identifier 7. */
  readonly publishes: string[] = []
  readonly counts = new Map<string, number>()
  acks = 0

  constructor(input: Buffer) {
    const { packets } = splitPackets(input)
    for (const { first, body } of packets) this.#add(first, body)
  }

  count(name: string): number {
    return this.counts.get(name) ?? 0
  }

  #add(first: number, body: Buffer): void {
    const type = first >> 4
    if (type === 1 && this.version === 0) {
      const nameBytes = body.length > 1 ? body.readUInt16BE(0) : 0
      this.version = (body[2 + nameBytes] ?? 0) & 127
    }
    if (type === 3) {
      const qos = (first >> 1) & 3
      const idAt = 2 + (body.length > 1 ? body.readUInt16BE(0) : 0)
      if (qos > 0 && idAt + 2 <= body.length)
        this.publishes.push(`${qos}:${body.readUInt16BE(idAt)}`)
      return
    }
    if (type === 12) this.#count('ping')
    else if (type >= 4 && body.length >= 2) {
      this.#count(`${type}:${body.readUInt16BE(0)}`)
      if (type === 4 || type === 5 || type === 7) this.acks++
    }
  }

  #count(name: string): void {
    this.counts.set(name, this.count(name) + 1)
  }
}

export interface PeerLimits {
  readonly inflightMax: number
}

/** Throws when something in `output` was not asked for by `input`, or is no packet. Returns the answers. */
export function checkMqtt(
  input: Buffer,
  output: Buffer,
  isEnded: boolean,
  limits: PeerLimits
): Answer[] {
  const sent = new Sent(input)
  const { packets, rest } = splitPackets(output)
  if (rest > 0) throw new Error(`${rest} bytes of a packet that is not whole`)
  if (packets.length === 0) return []
  const connack = packets[0]!
  if (connack.first !== 0x20) throw new Error('the first packet is no CONNACK')
  const version = connack.body.length > 2 ? 5 : 4
  const aliases = new Map<number, string>()
  const answers = packets.map(packet => readAnswer(packet, version, aliases))
  const counts = new Map<string, number>()
  const count = (name: string) => {
    const now = (counts.get(name) ?? 0) + 1
    counts.set(name, now)
    return now
  }
  const isPresent = connack.body[0] === 1
  let acked = 0
  let deliveries = 0
  answers.forEach(({ type, first, id, reason }, index) => {
    const isLast = index === answers.length - 1
    if (type === 2 && index > 0) throw new Error('a second CONNACK')
    if (type === 2 && reason > 0 && !(isLast && isEnded))
      throw new Error('refused, and still there')
    if (type === 14 && !(isLast && isEnded)) throw new Error('something behind DISCONNECT')
    const most = (name: string, max: number) => {
      if (count(name) > max)
        throw new Error(`packet type ${type}, identifier ${id}, was not asked for`)
    }
    if (type === 4 || type === 5) {
      const expected = sent.publishes[acked++]
      const found = `${type === 4 ? 1 : 2}:${id}`
      if (found !== expected) throw new Error(`acknowledges ${found}, ${expected} is next`)
    } else if (type === 7) most(`7:${id}`, sent.count(`6:${id}`))
    else if (type === 6) most(`6:${id}`, sent.count(`5:${id}`) + (isPresent ? 1 : 0))
    else if (type === 9) most(`9:${id}`, sent.count(`8:${id}`))
    else if (type === 11) most(`11:${id}`, sent.count(`10:${id}`))
    else if (type === 13) most('ping', sent.count('ping'))
    else if (type === 3 && id > 0) {
      deliveries++
      const ended = sent.count(`4:${id}`) + sent.count(`5:${id}`) + sent.count(`7:${id}`)
      if ((first & 8) === 0) most(`3:${id}`, 1 + ended)
      if (deliveries > limits.inflightMax + sent.acks) throw new Error('too many in flight')
    }
  })
  checkWithParser(output, version, packets.length)
  return answers
}

/** The usual clients' parser takes it too. */
function checkWithParser(output: Buffer, version: number, count: number): void {
  let seen = 0
  const decoder = parser({ protocolVersion: version })
  decoder.on('packet', () => {
    seen++
  })
  decoder.on('error', error => {
    throw error
  })
  decoder.parse(output)
  if (seen !== count) throw new Error(`mqtt-packet finds ${seen} packets of ${count}`)
}

/** Inbound QoS 2 identifiers that must be free: each PUBLISH had its PUBREC, and a PUBCOMP came behind the last. */
export function freeIds(input: Buffer, answers: readonly Answer[]): Set<number> {
  const sent = new Sent(input)
  const free = new Set<number>()
  const received = new Map<number, number>()
  for (const { type, id, reason } of answers) {
    if (type === 5) {
      received.set(id, (received.get(id) ?? 0) + 1)
      if (reason < 0x80) free.delete(id)
    } else if (type === 7 && reason === 0) free.add(id)
  }
  for (const id of free) {
    const asked = sent.publishes.filter(each => each === `2:${id}`).length
    if (asked !== received.get(id)) free.delete(id)
  }
  return free
}
