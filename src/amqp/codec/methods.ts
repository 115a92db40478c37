/**
 * The methods of AMQP 0-9-1 with RabbitMQ's extensions: their ids and arguments in one table, and the
 * reader and writer that follow it. The methods that make the traffic (publish, deliver, ack, nack,
 * reject) are read and written by hand where they are used; the table names them all the same.
 */
import { isUtf8 } from 'node:buffer'
import type { FieldTable } from '../../core/field-table.ts'
import { cutUtf8 } from '../../lib/bytes.ts'
import { readTable, syntaxError, tableBytes, writeTable } from './field-table.ts'

/** Kinds of arguments (§4.2.5): consecutive bits share octets. */
type ArgumentKind =
  | 'bit'
  | 'octet'
  | 'short'
  | 'long'
  | 'longlong'
  | 'shortstr'
  | 'longstr'
  | 'table'

interface ArgumentTypes {
  bit: boolean
  octet: number
  short: number
  long: number
  /** Delivery tags: exact up to 2^53, which no channel reaches. */
  longlong: number
  shortstr: string
  longstr: Buffer
  table: FieldTable
}

export type Shape = Readonly<Record<string, ArgumentKind>>
export type ArgumentsOf<S extends Shape> = { [K in keyof S]: ArgumentTypes[S[K]] }

export class Method<S extends Shape = Shape> {
  readonly classId: number
  readonly methodId: number
  /** Names and kinds in the order of the wire. */
  readonly shape: S

  constructor(classId: number, methodId: number, shape: S) {
    this.classId = classId
    this.methodId = methodId
    this.shape = shape
  }

  /** Key of dispatch tables. */
  get id(): number {
    return (this.classId << 16) | this.methodId
  }
}

function method<const S extends Shape>(classId: number, methodId: number, shape: S): Method<S> {
  return new Method(classId, methodId, shape)
}

const closing = {
  replyCode: 'short',
  replyText: 'shortstr',
  classId: 'short',
  methodId: 'short'
} as const
const tuning = { channelMax: 'short', frameMax: 'long', heartbeat: 'short' } as const
const exchangeBinding = {
  reserved: 'short',
  destination: 'shortstr',
  source: 'shortstr',
  routingKey: 'shortstr',
  noWait: 'bit',
  arguments: 'table'
} as const

export const CONNECTION = {
  start: method(10, 10, {
    versionMajor: 'octet',
    versionMinor: 'octet',
    serverProperties: 'table',
    mechanisms: 'longstr',
    locales: 'longstr'
  }),
  startOk: method(10, 11, {
    clientProperties: 'table',
    mechanism: 'shortstr',
    response: 'longstr',
    locale: 'shortstr'
  }),
  secure: method(10, 20, { challenge: 'longstr' }),
  secureOk: method(10, 21, { response: 'longstr' }),
  tune: method(10, 30, tuning),
  tuneOk: method(10, 31, tuning),
  open: method(10, 40, { virtualHost: 'shortstr', reserved1: 'shortstr', reserved2: 'bit' }),
  openOk: method(10, 41, { reserved: 'shortstr' }),
  close: method(10, 50, closing),
  closeOk: method(10, 51, {}),
  blocked: method(10, 60, { reason: 'shortstr' }),
  unblocked: method(10, 61, {}),
  updateSecret: method(10, 70, { newSecret: 'longstr', reason: 'shortstr' }),
  updateSecretOk: method(10, 71, {})
} as const

export const CHANNEL = {
  open: method(20, 10, { reserved: 'shortstr' }),
  openOk: method(20, 11, { reserved: 'longstr' }),
  flow: method(20, 20, { active: 'bit' }),
  flowOk: method(20, 21, { active: 'bit' }),
  close: method(20, 40, closing),
  closeOk: method(20, 41, {})
} as const

/** Of AMQP 0-9; old clients still ask for a ticket before they begin. */
export const ACCESS = {
  request: method(30, 10, {
    realm: 'shortstr',
    exclusive: 'bit',
    passive: 'bit',
    active: 'bit',
    write: 'bit',
    read: 'bit'
  }),
  requestOk: method(30, 11, { ticket: 'short' })
} as const

export const EXCHANGE = {
  declare: method(40, 10, {
    reserved: 'short',
    exchange: 'shortstr',
    type: 'shortstr',
    passive: 'bit',
    durable: 'bit',
    autoDelete: 'bit',
    internal: 'bit',
    noWait: 'bit',
    arguments: 'table'
  }),
  declareOk: method(40, 11, {}),
  delete: method(40, 20, {
    reserved: 'short',
    exchange: 'shortstr',
    ifUnused: 'bit',
    noWait: 'bit'
  }),
  deleteOk: method(40, 21, {}),
  bind: method(40, 30, exchangeBinding),
  bindOk: method(40, 31, {}),
  unbind: method(40, 40, exchangeBinding),
  unbindOk: method(40, 51, {})
} as const

export const QUEUE = {
  declare: method(50, 10, {
    reserved: 'short',
    queue: 'shortstr',
    passive: 'bit',
    durable: 'bit',
    exclusive: 'bit',
    autoDelete: 'bit',
    noWait: 'bit',
    arguments: 'table'
  }),
  declareOk: method(50, 11, { queue: 'shortstr', messageCount: 'long', consumerCount: 'long' }),
  bind: method(50, 20, {
    reserved: 'short',
    queue: 'shortstr',
    exchange: 'shortstr',
    routingKey: 'shortstr',
    noWait: 'bit',
    arguments: 'table'
  }),
  bindOk: method(50, 21, {}),
  unbind: method(50, 50, {
    reserved: 'short',
    queue: 'shortstr',
    exchange: 'shortstr',
    routingKey: 'shortstr',
    arguments: 'table'
  }),
  unbindOk: method(50, 51, {}),
  purge: method(50, 30, { reserved: 'short', queue: 'shortstr', noWait: 'bit' }),
  purgeOk: method(50, 31, { messageCount: 'long' }),
  delete: method(50, 40, {
    reserved: 'short',
    queue: 'shortstr',
    ifUnused: 'bit',
    ifEmpty: 'bit',
    noWait: 'bit'
  }),
  deleteOk: method(50, 41, { messageCount: 'long' })
} as const

export const BASIC = {
  qos: method(60, 10, { prefetchSize: 'long', prefetchCount: 'short', global: 'bit' }),
  qosOk: method(60, 11, {}),
  consume: method(60, 20, {
    reserved: 'short',
    queue: 'shortstr',
    consumerTag: 'shortstr',
    noLocal: 'bit',
    noAck: 'bit',
    exclusive: 'bit',
    noWait: 'bit',
    arguments: 'table'
  }),
  consumeOk: method(60, 21, { consumerTag: 'shortstr' }),
  cancel: method(60, 30, { consumerTag: 'shortstr', noWait: 'bit' }),
  cancelOk: method(60, 31, { consumerTag: 'shortstr' }),
  publish: method(60, 40, {
    reserved: 'short',
    exchange: 'shortstr',
    routingKey: 'shortstr',
    mandatory: 'bit',
    immediate: 'bit'
  }),
  return: method(60, 50, {
    replyCode: 'short',
    replyText: 'shortstr',
    exchange: 'shortstr',
    routingKey: 'shortstr'
  }),
  deliver: method(60, 60, {
    consumerTag: 'shortstr',
    deliveryTag: 'longlong',
    redelivered: 'bit',
    exchange: 'shortstr',
    routingKey: 'shortstr'
  }),
  get: method(60, 70, { reserved: 'short', queue: 'shortstr', noAck: 'bit' }),
  getOk: method(60, 71, {
    deliveryTag: 'longlong',
    redelivered: 'bit',
    exchange: 'shortstr',
    routingKey: 'shortstr',
    messageCount: 'long'
  }),
  getEmpty: method(60, 72, { reserved: 'shortstr' }),
  ack: method(60, 80, { deliveryTag: 'longlong', multiple: 'bit' }),
  reject: method(60, 90, { deliveryTag: 'longlong', requeue: 'bit' }),
  recoverAsync: method(60, 100, { requeue: 'bit' }),
  recover: method(60, 110, { requeue: 'bit' }),
  recoverOk: method(60, 111, {}),
  nack: method(60, 120, { deliveryTag: 'longlong', multiple: 'bit', requeue: 'bit' })
} as const

export const CONFIRM = {
  select: method(85, 10, { noWait: 'bit' }),
  selectOk: method(85, 11, {})
} as const

export const TX = {
  select: method(90, 10, {}),
  selectOk: method(90, 11, {}),
  commit: method(90, 20, {}),
  commitOk: method(90, 21, {}),
  rollback: method(90, 30, {}),
  rollbackOk: method(90, 31, {})
} as const

/** Reads the arguments that stand in `buffer[at..end)`. Throws 502 when they are not exactly there. */
export function readArguments<S extends Shape>(
  method: Method<S>,
  buffer: Buffer,
  at: number,
  end: number
): ArgumentsOf<S> {
  const values: Record<string, unknown> = {}
  let bits = 0
  let bitIndex = 8
  for (const [name, kind] of Object.entries(method.shape)) {
    if (kind === 'bit') {
      if (bitIndex === 8) {
        if (at >= end) throw syntaxError('method cut short')
        bits = buffer[at++]!
        bitIndex = 0
      }
      values[name] = ((bits >> bitIndex++) & 1) === 1
      continue
    }
    bitIndex = 8
    const stop = argumentEnd(kind, buffer, at, end)
    values[name] = readArgument(kind, buffer, at, stop)
    at = stop
  }
  if (at !== end) throw syntaxError('method longer than its arguments')
  // Every name of the shape was given a value of its kind just above.
  return values as ArgumentsOf<S>
}

function argumentEnd(
  kind: Exclude<ArgumentKind, 'bit'>,
  buffer: Buffer,
  at: number,
  end: number
): number {
  let stop = at + (FIXED_BYTES[kind] ?? 0)
  if (stop > end) throw syntaxError('method cut short')
  if (kind === 'shortstr') stop += buffer[at]!
  else if (kind === 'longstr' || kind === 'table') stop += buffer.readUInt32BE(at)
  if (stop > end) throw syntaxError('method cut short')
  return stop
}

function readArgument(
  kind: Exclude<ArgumentKind, 'bit'>,
  buffer: Buffer,
  at: number,
  end: number
): unknown {
  switch (kind) {
    case 'octet':
      return buffer[at]
    case 'short':
      return buffer.readUInt16BE(at)
    case 'long':
      return buffer.readUInt32BE(at)
    case 'longlong':
      return buffer.readUInt32BE(at) * 4294967296 + buffer.readUInt32BE(at + 4)
    case 'shortstr':
      if (!isUtf8(buffer.subarray(at + 1, end))) throw syntaxError('a short string is not UTF-8')
      return buffer.toString('utf8', at + 1, end)
    case 'longstr':
      return Buffer.from(buffer.subarray(at + 4, end))
    case 'table':
      return readTable(buffer, at, end)
  }
}

/** Bytes of a kind, or of the length that stands before it. */
const FIXED_BYTES: Readonly<Record<Exclude<ArgumentKind, 'bit'>, number>> = {
  octet: 1,
  short: 2,
  long: 4,
  longlong: 8,
  shortstr: 1,
  longstr: 4,
  table: 4
}

export const FRAME_METHOD = 1
export const FRAME_HEADER = 2
export const FRAME_BODY = 3
export const FRAME_HEARTBEAT = 8
export const FRAME_END = 0xce
/** Type, channel, size before a frame's payload, and the end marker behind it. */
export const FRAME_HEAD_BYTES = 7
export const FRAME_EXTRA_BYTES = 8

/** A whole method frame. Short strings are cut at 255 bytes, at a character. */
export function encodeMethod<S extends Shape>(
  method: Method<S>,
  channel: number,
  values: ArgumentsOf<S>
): Buffer {
  const shape = Object.entries(method.shape)
  // The names of `values` are those of the shape: the type says so.
  const given = values as Record<string, unknown>
  let bytes = 4
  for (const [name, kind] of shape) bytes += kind === 'bit' ? 1 : argumentBytes(kind, given[name])
  const buffer = Buffer.alloc(bytes + FRAME_EXTRA_BYTES)
  let at = FRAME_HEAD_BYTES
  at = buffer.writeUInt16BE(method.classId, at)
  at = buffer.writeUInt16BE(method.methodId, at)
  let bitIndex = 8
  for (const [name, kind] of shape) {
    if (kind !== 'bit') {
      bitIndex = 8
      at = writeArgument(kind, buffer, at, given[name])
      continue
    }
    if (bitIndex === 8) {
      at++
      bitIndex = 0
    }
    if (given[name] === true) buffer[at - 1]! |= 1 << bitIndex
    bitIndex++
  }
  buffer[0] = FRAME_METHOD
  buffer.writeUInt16BE(channel, 1)
  buffer.writeUInt32BE(at - FRAME_HEAD_BYTES, 3)
  buffer[at] = FRAME_END
  return buffer.subarray(0, at + 1)
}

function argumentBytes(kind: Exclude<ArgumentKind, 'bit'>, value: unknown): number {
  const fixed = FIXED_BYTES[kind]
  if (kind === 'shortstr') return fixed + Buffer.byteLength(cutShort(value as string))
  if (kind === 'longstr') return fixed + (value as Buffer).length
  if (kind === 'table') return tableBytes(value as FieldTable)
  return fixed
}

function writeArgument(
  kind: Exclude<ArgumentKind, 'bit'>,
  buffer: Buffer,
  at: number,
  value: unknown
): number {
  switch (kind) {
    case 'octet':
      return buffer.writeUInt8(value as number, at)
    case 'short':
      return buffer.writeUInt16BE(value as number, at)
    case 'long':
      return buffer.writeUInt32BE(value as number, at)
    case 'longlong':
      return buffer.writeBigUInt64BE(BigInt(value as number), at)
    case 'shortstr': {
      const length = buffer.write(cutShort(value as string), at + 1)
      buffer[at] = length
      return at + 1 + length
    }
    case 'longstr':
      at = buffer.writeUInt32BE((value as Buffer).length, at)
      return at + (value as Buffer).copy(buffer, at)
    case 'table':
      return writeTable(buffer, at, value as FieldTable)
  }
}

/** At most 255 bytes of `text`, cut between characters. */
export function cutShort(text: string): string {
  return cutUtf8(text, 255)
}
