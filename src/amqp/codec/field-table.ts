/**
 * Field tables on the wire (AMQP 0-9-1 §4.2.5.5), with RabbitMQ's type letters. A table is read only as
 * deep as `TABLE_DEPTH_MAX`; every length is checked against the bytes that are there, so that what is
 * read never costs more than what arrived. `checkTable` walks a table without making anything.
 */
import { isUtf8 } from 'node:buffer'
import type { FieldTable, FieldValue } from '../../core/field-table.ts'
import { AmqpError, REPLY } from '../reply-codes.ts'

export const TABLE_DEPTH_MAX = 32

/** The bytes of a method, a header or a table are not what they should be: 502. */
export function syntaxError(what: string): AmqpError {
  return new AmqpError(REPLY.syntaxError, what)
}

const C = 0x43
const T_BOOL = 0x74
const T_INT8 = 0x62
const T_UINT8 = 0x42
const T_INT16 = 0x73
const T_UINT16 = 0x75
const T_INT32 = 0x49
const T_UINT32 = 0x69
const T_INT64 = 0x6c
/** The letters of the 0-9-1 document for two types that RabbitMQ calls otherwise; py-amqp writes the first. */
const T_INT64_OF_0_9_1 = 0x4c
const T_INT16_OF_0_9_1 = 0x55
const T_FLOAT = 0x66
const T_DOUBLE = 0x64
const T_DECIMAL = 0x44
const T_STRING = 0x53
const T_ARRAY = 0x41
const T_TIMESTAMP = 0x54
const T_TABLE = 0x46
const T_VOID = 0x56
const T_BYTES = 0x78

/** Bytes of a value of each type letter; -1: its length stands before it; -2: no such type. */
const SIZES = new Int8Array(256).fill(-2)
for (const type of [T_VOID]) SIZES[type] = 0
for (const type of [T_BOOL, T_INT8, T_UINT8]) SIZES[type] = 1
for (const type of [T_INT16, T_UINT16, T_INT16_OF_0_9_1]) SIZES[type] = 2
for (const type of [T_INT32, T_UINT32, T_FLOAT]) SIZES[type] = 4
for (const type of [T_INT64, T_INT64_OF_0_9_1, T_DOUBLE, T_TIMESTAMP]) SIZES[type] = 8
SIZES[T_DECIMAL] = 5
for (const type of [T_STRING, T_BYTES, T_ARRAY, T_TABLE]) SIZES[type] = -1

/** Headers of MQTT's RETAIN: see handle-publish.ts. */
export const RETAIN_HEADER = 'x-mqtt-retain'

/** Whether the table that `checkTable` walked last has a `CC` or `BCC`, or a `RETAIN_HEADER`, at its top. */
export const checked = { hasCopies: false, hasRetain: false }

/**
 * Checks the table that starts at `at` (its length included) and returns the offset behind it.
 * Throws 502 when it is malformed, reaches beyond `end`, or is nested too deeply.
 */
export function checkTable(buffer: Buffer, at: number, end: number, depth = 0): number {
  checked.hasCopies = false
  checked.hasRetain = false
  return checkItems(buffer, at, end, depth, true)
}

function checkItems(
  buffer: Buffer,
  at: number,
  end: number,
  depth: number,
  isTable: boolean
): number {
  if (depth >= TABLE_DEPTH_MAX) throw syntaxError('field table nested too deeply')
  if (at + 4 > end) throw syntaxError('field table cut short')
  const stop = at + 4 + buffer.readUInt32BE(at)
  if (stop > end) throw syntaxError('field table longer than what holds it')
  at += 4
  while (at < stop) {
    if (isTable) {
      if (depth === 0) noteName(buffer, at)
      at += 1 + buffer[at]!
    }
    if (at >= stop) throw syntaxError('field table cut short')
    const type = buffer[at]!
    const size = SIZES[type]!
    at++
    if (size >= 0) at += size
    else if (size === -2) throw syntaxError(`unknown field type ${type}`)
    else if (type === T_TABLE || type === T_ARRAY) {
      at = checkItems(buffer, at, stop, depth + 1, type === T_TABLE)
    } else {
      if (at + 4 > stop) throw syntaxError('field table cut short')
      at += 4 + buffer.readUInt32BE(at)
    }
  }
  if (at !== stop) throw syntaxError('field value longer than its table')
  return stop
}

/** The name at `at`: is it one that the broker acts on? */
function noteName(buffer: Buffer, at: number): void {
  const bytes = buffer[at]!
  if (bytes === 3) {
    if (buffer[at + 1] === 0x42 && buffer[at + 2] === C && buffer[at + 3] === C) {
      checked.hasCopies = true
    }
  } else if (bytes === 2) {
    if (buffer[at + 1] === C && buffer[at + 2] === C) checked.hasCopies = true
  } else if (bytes === RETAIN_HEADER.length && isRetainName(buffer, at + 1)) {
    checked.hasRetain = true
  }
}

function isRetainName(buffer: Buffer, at: number): boolean {
  return buffer.toString('latin1', at, at + RETAIN_HEADER.length) === RETAIN_HEADER
}

/** Reads the table that starts at `at`, its length included. Throws 502 as `checkTable` does. */
export function readTable(buffer: Buffer, at: number, end: number): FieldTable {
  const stop = checkTable(buffer, at, end)
  return readEntries(buffer, at + 4, stop)
}

/** Offset behind the value that was read last: `readValue` is called from one place at a time. */
let valueEnd = 0

/** `buffer[at..end)` was checked: nothing is checked again. */
function readEntries(buffer: Buffer, at: number, end: number): FieldTable {
  const table: [string, FieldValue][] = []
  while (at < end) {
    const nameEnd = at + 1 + buffer[at]!
    const name = buffer.toString('utf8', at + 1, nameEnd)
    table.push([name, readValue(buffer, nameEnd)])
    at = valueEnd
  }
  return table
}

function readItems(buffer: Buffer, at: number, end: number): FieldValue[] {
  const items: FieldValue[] = []
  while (at < end) {
    items.push(readValue(buffer, at))
    at = valueEnd
  }
  return items
}

function readValue(buffer: Buffer, at: number): FieldValue {
  const type = buffer[at]!
  at++
  const size = SIZES[type]!
  if (size < 0) return readSized(buffer, at, type)
  valueEnd = at + size
  switch (type) {
    case T_BOOL:
      return { type: 't', value: buffer[at] !== 0 }
    case T_INT8:
      return { type: 'b', value: buffer.readInt8(at) }
    case T_UINT8:
      return { type: 'B', value: buffer[at]! }
    case T_INT16:
    case T_INT16_OF_0_9_1:
      return { type: 's', value: buffer.readInt16BE(at) }
    case T_UINT16:
      return { type: 'u', value: buffer.readUInt16BE(at) }
    case T_INT32:
      return { type: 'I', value: buffer.readInt32BE(at) }
    case T_UINT32:
      return { type: 'i', value: buffer.readUInt32BE(at) }
    case T_INT64:
    case T_INT64_OF_0_9_1:
      return { type: 'l', value: buffer.readBigInt64BE(at) }
    case T_TIMESTAMP:
      return { type: 'T', value: buffer.readBigUInt64BE(at) }
    case T_FLOAT:
      return { type: 'f', value: buffer.readFloatBE(at) }
    case T_DOUBLE:
      return { type: 'd', value: buffer.readDoubleBE(at) }
    case T_DECIMAL:
      return { type: 'D', scale: buffer[at]!, value: buffer.readUInt32BE(at + 1) }
    default:
      return { type: 'V', value: null }
  }
}

function readSized(buffer: Buffer, at: number, type: number): FieldValue {
  const start = at + 4
  const stop = start + buffer.readUInt32BE(at)
  valueEnd = stop
  if (type === T_TABLE || type === T_ARRAY) {
    const value: FieldValue =
      type === T_TABLE
        ? { type: 'F', value: readEntries(buffer, start, stop) }
        : { type: 'A', value: readItems(buffer, start, stop) }
    valueEnd = stop
    return value
  }
  const bytes = buffer.subarray(start, stop)
  if (type !== T_STRING) return { type: 'x', value: Buffer.from(bytes) }
  if (isUtf8(bytes)) return { type: 'S', value: bytes.toString('utf8') }
  return { type: 'x', value: Buffer.from(bytes), isLongString: true }
}

/** Bytes that the table takes, its length included. */
export function tableBytes(table: FieldTable): number {
  let bytes = 4
  for (const [name, value] of table) bytes += 1 + nameBytes(name) + 1 + valueBytes(value)
  return bytes
}

function nameBytes(name: string): number {
  const bytes = Buffer.byteLength(name)
  if (bytes > 255) throw new RangeError('a field name has at most 255 bytes')
  return bytes
}

function valueBytes(value: FieldValue): number {
  switch (value.type) {
    case 'S':
      return 4 + Buffer.byteLength(value.value)
    case 'x':
      return 4 + value.value.length
    case 'F':
      return tableBytes(value.value)
    case 'A': {
      let bytes = 4
      for (const item of value.value) bytes += 1 + valueBytes(item)
      return bytes
    }
    default:
      return SIZES[value.type.charCodeAt(0)]!
  }
}

/** Writes the table at `at`, its length included; returns the offset behind it. */
export function writeTable(buffer: Buffer, at: number, table: FieldTable): number {
  const start = at
  at += 4
  for (const [name, value] of table) {
    const length = buffer.write(name, at + 1)
    buffer[at] = length
    at = writeValue(buffer, at + 1 + length, value)
  }
  buffer.writeUInt32BE(at - start - 4, start)
  return at
}

function writeValue(buffer: Buffer, at: number, value: FieldValue): number {
  buffer[at] = value.type.charCodeAt(0)
  at++
  switch (value.type) {
    case 't':
      buffer[at] = value.value ? 1 : 0
      return at + 1
    case 'b':
      return buffer.writeInt8(value.value, at)
    case 'B':
      return buffer.writeUInt8(value.value, at)
    case 's':
      return buffer.writeInt16BE(value.value, at)
    case 'u':
      return buffer.writeUInt16BE(value.value, at)
    case 'I':
      return buffer.writeInt32BE(value.value, at)
    case 'i':
      return buffer.writeUInt32BE(value.value, at)
    case 'f':
      return buffer.writeFloatBE(value.value, at)
    case 'd':
      return buffer.writeDoubleBE(value.value, at)
    case 'l':
      return buffer.writeBigInt64BE(value.value, at)
    case 'T':
      return buffer.writeBigUInt64BE(value.value, at)
    case 'D':
      buffer[at] = value.scale
      return buffer.writeUInt32BE(value.value, at + 1)
    case 'V':
      return at
    case 'F':
      return writeTable(buffer, at, value.value)
    default:
      return writeSized(buffer, at, value)
  }
}

function writeSized(
  buffer: Buffer,
  at: number,
  value: Extract<FieldValue, { type: 'S' | 'x' | 'A' }>
): number {
  const start = at + 4
  let end = start
  if (value.type === 'x' && value.isLongString) buffer[at - 1] = T_STRING
  if (value.type === 'S') end += buffer.write(value.value, start)
  else if (value.type === 'x') end += value.value.copy(buffer, start)
  else for (const item of value.value) end = writeValue(buffer, end, item)
  buffer.writeUInt32BE(end - start, at)
  return end
}
