/** The output formats of mosquitto_sub 2.0: `-F`, of which payload alone and `-v` are special cases. */
import type { Property, PropertyValue } from '../client/properties.ts'
import { ID, PROPERTY_TYPES } from '../client/properties.ts'
import { FlagMistake } from './mosquitto-config.ts'
import { escapeJson, parseJson, printJson } from './json-text.ts'
import { isoTime, strftime } from './strftime.ts'

/** A message as it is shown; its bytes are the caller's. */
export interface ShownMessage {
  readonly topic: Buffer
  readonly payload: Buffer
  readonly qos: number
  readonly retain: boolean
  readonly packetId: number
  readonly properties: readonly Property[]
  readonly at: MessageTime
}

/** When it came. */
export interface MessageTime {
  readonly ms: number
  /** Behind the second. */
  readonly nanoseconds: number
}

interface Field {
  readonly letter: string
  /** 0: as wide as it is. */
  readonly width: number
  /** -1: all of it. */
  readonly precision: number
  readonly pad: ' ' | '0' | '-'
}

/** A piece of a format: bytes as they are, a parameter (`%`), or a part of the time (`@`). */
type Piece = Buffer | Field | { readonly time: string }

const LETTERS = 'ACDEFIJPRSUXjlmpqrtx'
const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\',
  '0': '\0',
  a: '\x07',
  e: '\x1b',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v'
}
const NOTHING = Buffer.alloc(0)
const NULL_TEXT = Buffer.from('(null)')

export class MessageFormat {
  private readonly pieces: readonly Piece[]
  private readonly isPretty: boolean
  private readonly onBadJson: (topic: string) => void

  /** Throws a `FlagMistake`. `onBadJson`: `%J` met a payload that is none. */
  constructor(format: string, isPretty: boolean, onBadJson: (topic: string) => void) {
    this.pieces = parse(format)
    this.isPretty = isPretty
    this.onBadJson = onBadJson
  }

  write(message: ShownMessage): Buffer {
    const written: Buffer[] = []
    for (const piece of this.pieces) {
      if (Buffer.isBuffer(piece)) written.push(piece)
      else if ('time' in piece) written.push(Buffer.from(timePart(piece.time, message.at)))
      else written.push(this.writeField(piece, message))
    }
    return Buffer.concat(written)
  }

  private writeField(field: Field, message: ShownMessage): Buffer {
    switch (field.letter) {
      case 'j':
        return this.writeJson(message, quoted(message.payload))
      case 'J':
        return this.writeOpenJson(message)
      case 'D':
        return bytesOf(message, ID.correlationData)
      case 'P':
        return Buffer.from(userProperties(message))
      case 'q':
        return Buffer.from(String(message.qos))
      case 'r':
        return Buffer.from(message.retain ? '1' : '0')
      case 'U': {
        const { ms, nanoseconds } = message.at
        return Buffer.from(`${Math.floor(ms / 1_000)}.${String(nanoseconds).padStart(9, '0')}`)
      }
      case 'C':
      case 'I':
      case 'R':
      case 't':
        return writeText(field, textField(field.letter, message))
      case 'p':
      case 'x':
      case 'X':
        return padded(payloadField(field.letter, message.payload), field, '0')
      default:
        return padded(Buffer.from(numberField(field.letter, message)), field, '0')
    }
  }

  private writeOpenJson(message: ShownMessage): Buffer {
    const { payload } = message
    const value = payload.length === 0 ? null : parseJson(payload)
    if (value === null && payload.length > 0) {
      this.onBadJson(message.topic.toString())
      return NOTHING
    }
    const depth = this.isPretty ? 1 : -1
    return this.writeJson(message, value === null ? 'null' : printJson(value, depth))
  }

  /** `payload` is JSON; strings are bytes a character each, as the payload may be no UTF-8. */
  private writeJson(message: ShownMessage, payload: string): Buffer {
    const { at, topic, qos, retain, packetId, properties } = message
    const micros = String(Math.floor(at.nanoseconds / 1_000)).padStart(6, '0')
    const date = new Date(at.ms)
    const members: [name: string, value: string][] = [
      ['tst', `"${strftime('Y-m-dTH:M:S', date)}.${micros}Z${strftime('z', date)}"`],
      ['topic', quoted(topic)],
      ['qos', String(qos)],
      ['retain', retain ? '1' : '0'],
      ['payloadlen', String(message.payload.length)]
    ]
    if (qos > 0) members.push(['mid', String(packetId)])
    if (properties.length > 0) members.push(['properties', this.jsonProperties(properties)])
    members.push(['payload', payload])
    return Buffer.from(this.object(members, 0), 'latin1')
  }

  private jsonProperties(properties: readonly Property[]): string {
    const members: [string, string][] = []
    const pairs = properties.filter(({ id }) => id === ID.userProperty)
    let hasPairs = false
    for (const { id, value } of properties) {
      const name = PROPERTY_TYPES.get(id)?.name ?? ''
      if (id !== ID.userProperty) members.push([name, jsonValue(value)])
      else if (!hasPairs) {
        hasPairs = true
        const entries = pairs.map(pair => pair.value as readonly [string, string])
        const list = entries.map(([key, text]): [string, string] => [latin(key), jsonValue(text)])
        members.push(['user-properties', this.object(list, 2)])
      }
    }
    return this.object(members, 1)
  }

  private object(members: readonly [string, string][], depth: number): string {
    if (!this.isPretty) {
      return `{${members.map(([name, value]) => `"${escapeJson(name)}":${value}`).join(',')}}`
    }
    const indent = '\t'.repeat(depth + 1)
    const lines = members.map(([name, value]) => `${indent}"${escapeJson(name)}":\t${value}`)
    return `{\n${lines.join(',\n')}\n${'\t'.repeat(depth)}}`
  }
}

/** `-v`: topic and payload; an empty one is shown as `(null)`. */
export function writeVerbose(message: ShownMessage): Buffer {
  const payload = message.payload.length === 0 ? NULL_TEXT : message.payload
  return Buffer.concat([message.topic, Buffer.from(' '), payload])
}

function parse(format: string): Piece[] {
  const pieces: Piece[] = []
  let literal = ''
  const flush = (): void => {
    if (literal !== '') pieces.push(Buffer.from(literal))
    literal = ''
  }
  for (let i = 0; i < format.length; i++) {
    const c = format[i]!
    if (c === '\\') {
      const escaped = format[++i]
      if (escaped === undefined) throw new FlagMistake('Incomplete escape specifier.')
      const meant = ESCAPES[escaped]
      if (meant === undefined) throw new FlagMistake(`Invalid escape specifier '${escaped}'.`)
      literal += meant
    } else if (c === '@') {
      const time = format[++i]
      if (time === undefined) throw new FlagMistake('Incomplete format specifier.')
      flush()
      pieces.push({ time })
    } else if (c === '%') {
      const match = /^([0-]?)(\d*)(\.\d*)?/.exec(format.slice(i + 1))!
      i += match[0].length + 1
      const letter = format[i]
      if (letter === undefined) throw new FlagMistake('Incomplete format specifier.')
      if (letter === '%') {
        literal += '%'
        continue
      }
      if (!LETTERS.includes(letter)) throw new FlagMistake(`Invalid format specifier '${letter}'.`)
      flush()
      pieces.push(fieldOf(letter, match))
    } else literal += c
  }
  flush()
  return pieces
}

function fieldOf(letter: string, match: RegExpExecArray): Field {
  const flag = match[1] ?? ''
  const digits = match[2] ?? ''
  // `-05` is left aligned: the zero is of no use there.
  const width = Number(digits)
  const point = match[3]
  const precision = point === undefined || point === '.' ? -1 : Number(point.slice(1))
  return { letter, width, precision, pad: flag === '-' ? '-' : flag === '0' ? '0' : ' ' }
}

function timePart(part: string, at: MessageTime): string {
  if (part === '@') return '@'
  if (part === 'N') return String(at.nanoseconds).padStart(9, '0')
  return strftime(part, new Date(at.ms))
}

function textField(letter: string, message: ShownMessage): Buffer {
  if (letter === 't') return message.topic
  if (letter === 'I') return Buffer.from(isoTime(new Date(message.at.ms)))
  return bytesOf(message, letter === 'C' ? ID.contentType : ID.responseTopic)
}

function payloadField(letter: string, payload: Buffer): Buffer {
  if (letter === 'p') return payload
  const hex = payload.toString('hex')
  return Buffer.from(letter === 'X' ? hex.toUpperCase() : hex)
}

const NUMBERS: Readonly<Record<string, number>> = {
  A: ID.topicAlias,
  E: ID.messageExpiry,
  F: ID.payloadFormat,
  S: ID.subscriptionIdentifier
}

function numberField(letter: string, message: ShownMessage): string {
  if (letter === 'l') return String(message.payload.length)
  if (letter === 'm') return String(message.packetId)
  const found = message.properties.find(({ id }) => id === NUMBERS[letter])
  return found === undefined ? '' : String(found.value as number)
}

function bytesOf(message: ShownMessage, id: number): Buffer {
  const found = message.properties.find(property => property.id === id)
  return found === undefined ? NOTHING : Buffer.from(found.value as string | Buffer)
}

function userProperties({ properties }: ShownMessage): string {
  const pairs = properties.filter(({ id }) => id === ID.userProperty)
  return pairs.map(({ value }) => (value as readonly [string, string]).join(':')).join(' ')
}

function writeText(field: Field, text: Buffer): Buffer {
  // Where there is no response topic its width is not kept either.
  if (field.letter === 'R' && text.length === 0) return NOTHING
  return padded(field.precision < 0 ? text : text.subarray(0, field.precision), field, ' ')
}

/** `zero`: what the flag 0 fills with. */
function padded(bytes: Buffer, { width, pad }: Field, zero: '0' | ' '): Buffer {
  if (bytes.length >= width) return bytes
  const fill = Buffer.alloc(width - bytes.length, pad === '0' ? zero : ' ')
  return Buffer.concat(pad === '-' ? [bytes, fill] : [fill, bytes])
}

function latin(text: string): string {
  return Buffer.from(text).toString('latin1')
}

/** A JSON string of bytes, up to a NUL: a C string ends there. An empty payload is `null`. */
function quoted(bytes: Buffer): string {
  if (bytes.length === 0) return 'null'
  const nul = bytes.indexOf(0)
  const text = bytes.toString('latin1', 0, nul < 0 ? bytes.length : nul)
  return `"${escapeJson(text)}"`
}

function jsonValue(value: PropertyValue): string {
  if (typeof value === 'number') return String(value)
  const text = Buffer.isBuffer(value) ? value.toString('latin1') : latin(value as string)
  return `"${escapeJson(text)}"`
}
