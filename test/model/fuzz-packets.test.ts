/**
 * What is read in place, PUBLISH and the acknowledgements, against two other readers: one that follows the specification
 * line by line, which must agree on everything, and mqtt-packet, which takes more: what, is listed.
 */
import { parser } from 'mqtt-packet'
import { describe, expect, it } from 'vitest'
import { Message } from '../../src/core/message.ts'
import { ack, readAck } from '../../src/mqtt/codec/acks.ts'
import { ProtocolError } from '../../src/mqtt/codec/protocol-error.ts'
import { PublishReader } from '../../src/mqtt/codec/publish.ts'
import { spoil } from '../support/fuzz-case.ts'
import { acknowledge, publish } from '../support/fuzz-mqtt.ts'
import { Reader, splitPackets } from '../support/fuzz-mqtt-check.ts'
import { FUZZ_LIMITS } from '../support/fuzz-rig.ts'
import { chance, pick } from '../support/fuzz-sketch.ts'
import { between, type Random, seededRandom } from '../support/random.ts'

/** They cost little: more of them than of conversations. */
const COUNT = 5 * Number(process.env['MOTEMQ_FUZZ'] ?? 4_000)
const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
const PIECE = 5_000
const TIMEOUT_MS = 60_000 + COUNT

/** `topic=… id=… …`, or why it is refused. */
interface Reading {
  readonly text: string
  readonly error: string
}

/** What mqtt-packet takes and the specification, or a limit of ours, forbids; the texts of our errors. */
const LAX = [
  'topic is not UTF-8',
  'U+0000 in a topic',
  'wildcard in a topic',
  'topic too deep or too long',
  'empty topic',
  'packet identifier 0',
  'string is not UTF-8',
  'U+0000 in a string',
  'value of property 0x1',
  'value of property 0x8',
  'property 0x1 repeated',
  'property 0x2 repeated',
  'property 0x3 repeated',
  'property 0x8 repeated',
  'property 0x9 repeated',
  'property 0x1f repeated',
  'too many user properties',
  'variable byte integer not minimal',
  'packet too short',
  'PUBLISH too short',
  'no property length',
  'length of an acknowledgement',
  'trailing bytes',
  'topic alias 0',
  'topic alias over the maximum',
  'unknown topic alias',
  'property 0x23 repeated'
]
const isLax = (error: string) =>
  LAX.includes(error) || /^property 0x[0-9a-f]+ not allowed here$/.test(error)

function read(run: () => string): Reading {
  try {
    return { text: run(), error: '' }
  } catch (error) {
    return { text: '', error: (error as Error).message }
  }
}

const message = new Message()
const fields = (topic: string, id: number, payload: Buffer, flags: number) =>
  `${JSON.stringify(topic)} ${id} ${flags} ${payload.toString('hex')}`

/** Behind the body stand bytes that belong to nobody. */
function ours(first: number, body: Buffer, version: number): string {
  const buffer = Buffer.concat([Buffer.alloc(3, 0x61), body, Buffer.alloc(5, 0x61)])
  const start = 3
  const end = start + body.length
  if (first >> 4 !== 3) {
    readAck(first >> 4, buffer, start, end, version, FUZZ_LIMITS.userPropertiesMax)
    return `${ack.packetId} ${ack.reason}`
  }
  const reader = new PublishReader()
  reader.read(message, first, buffer, start, end, version, FUZZ_LIMITS, { nowMs: 0 })
  const { payloadStart, payloadEnd, keyStart, keyEnd } = message
  expect([payloadEnd, keyStart]).toEqual([end, start + 2])
  expect(message.key).toBe(buffer.toString('utf8', keyStart, keyEnd))
  const payload = buffer.subarray(payloadStart, payloadEnd)
  return fields(message.key, message.packetId, payload, first & 7)
}

/** As the specification says, with our limits. */
function strict(first: number, body: Buffer, version: number): string {
  const from = new Reader(body)
  if (first >> 4 === 3) return strictPublish(from, first, version)
  const id = from.number(2)
  if (id === 0) throw new Error('0')
  if (version < 5 || from.left === 0) {
    from.end()
    return `${id} 0`
  }
  const reason = from.number(1)
  const known = first >> 4 < 6 ? [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] : [0, 0x92]
  if (!known.includes(reason)) throw new Error('reason')
  if (from.left > 0) from.properties([31, 38], FUZZ_LIMITS.userPropertiesMax)
  from.end()
  return `${id} ${reason}`
}

function strictPublish(from: Reader, first: number, version: number): string {
  const topic = from.text()
  // A reader that has seen no PUBLISH before knows no alias.
  if (topic === '' || /[#+]/.test(topic)) throw new Error('topic')
  if (Buffer.byteLength(topic) > FUZZ_LIMITS.topicBytesMax) throw new Error('topic too long')
  if (topic.split('/').length - 1 > FUZZ_LIMITS.topicSeparatorsMax) throw new Error('too deep')
  const id = (first & 6) === 0 ? 0 : from.number(2)
  if ((first & 6) !== 0 && id === 0) throw new Error('0')
  if (version === 5) {
    const alias = from.properties([1, 2, 3, 8, 9, 35, 38], FUZZ_LIMITS.userPropertiesMax)
    if (alias > FUZZ_LIMITS.topicAliasMax) throw new Error('topic alias')
  }
  return fields(topic, id, from.take(from.left), first & 7)
}

function theirs(bytes: Buffer, version: number): string {
  let text = ''
  const decoder = parser({ protocolVersion: version })
  decoder.on('error', error => {
    throw error
  })
  decoder.on('packet', packet => {
    if (packet.cmd === 'publish') {
      const flags = (packet.qos << 1) | (packet.retain ? 1 : 0)
      const payload = Buffer.from(packet.payload)
      text = fields(String(packet.topic), packet.messageId ?? 0, payload, flags)
    } else {
      const { reasonCode } = packet as { reasonCode?: number }
      text = `${packet.messageId} ${version === 5 ? (reasonCode ?? 0) : 0}`
    }
  })
  decoder.parse(bytes)
  if (text === '') throw new Error('no packet')
  return text
}

function packetOf(random: Random, version: number): Buffer {
  const id = chance(random, 0.9) ? between(random, 1, 300) : pick(random, [0, 1, 65_535])
  const first = pick(random, [0x40, 0x50, 0x62, 0x70])
  const piece = chance(random, 0.7)
    ? publish(random, version, id)
    : acknowledge(random, version, first, id)
  return chance(random, 0.3) ? piece.bytes : spoil(random, piece).bytes
}

describe('PUBLISH and acknowledgements', () => {
  it(
    `are read as the specification says, ${COUNT} of them`,
    async () => {
      const lax = new Map<string, number>()
      let taken = 0
      // Most packets are refused: nobody reads where.
      Error.stackTraceLimit = 2
      for (let i = 0; i < COUNT; i++) {
        const random = seededRandom(Math.imul(SEED + i, 0x9e3779b1))
        const version = pick(random, [4, 5, 5])
        const [packet] = splitPackets(packetOf(random, version)).packets
        if (packet === undefined || !isReadInPlace(packet.first)) continue
        const { first, body } = packet
        const name = () =>
          `MOTEMQ_SEED=${SEED + i}, version ${version}: ${first.toString(16)} ${body.toString('hex')}`
        const own = read(() => ours(first, body, version))
        const reference = read(() => strict(first, body, version))
        if (own.text !== reference.text) {
          expect(`${name()}: ${own.text} ${own.error}`).toBe(`${reference.text} ${reference.error}`)
        }
        const other = read(() => theirs(whole(first, body), version))
        if (own.error === '') {
          taken++
          if (own.text !== other.text) {
            expect(`${name()}: ${own.text}`).toBe(`${other.text} ${other.error}`)
          }
        } else if (other.error === '') lax.set(own.error, (lax.get(own.error) ?? 0) + 1)
        if (i % PIECE === 0) await new Promise<void>(resolve => setImmediate(resolve))
      }
      process.stdout.write(`fuzz packets: MOTEMQ_SEED=${SEED}, ${COUNT} packets, ${taken} taken\n`)
      expect(taken).toBeGreaterThan(COUNT / 10)
      expect([...lax.keys()].filter(error => !isLax(error))).toEqual([])
    },
    TIMEOUT_MS
  )

  it('are refused by a ProtocolError, whatever the bytes', () => {
    const random = seededRandom(SEED)
    for (let i = 0; i < 2_000; i++) {
      const body = Buffer.from(Array.from({ length: between(random, 0, 12) }, () => random() * 256))
      try {
        ours(pick(random, [0x30, 0x32, 0x35, 0x40, 0x62]), body, pick(random, [4, 5]))
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError)
      }
    }
  })
})

/** What the splitter lets through as one of these. */
function isReadInPlace(first: number): boolean {
  if ([0x40, 0x50, 0x62, 0x70].includes(first)) return true
  return first >> 4 === 3 && (first & 6) !== 6 && ((first & 8) === 0 || (first & 6) !== 0)
}

function whole(first: number, body: Buffer): Buffer {
  const head = [first]
  let length = body.length
  for (; length > 127; length >>= 7) head.push((length & 127) | 128)
  return Buffer.concat([Buffer.from([...head, length]), body])
}
