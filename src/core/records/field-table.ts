/** Field tables in records: the value's letter, then the value, as AMQP 0-9-1 §4.2.5.5 has them. */
import { isUtf8 } from 'node:buffer'
import type { ByteWriter } from '../../lib/byte-writer.ts'
import { BytesError, type BytesReader } from '../../lib/bytes-reader.ts'
import { type FieldTable, type FieldValue, isNumberType } from '../field-table.ts'

const DEPTH_MAX = 64
const LONG_STRING = 'S'.charCodeAt(0)

export function writeTable(writer: ByteWriter, table: FieldTable): void {
  writer.varint(table.length)
  for (const [name, value] of table) {
    writer.shortString(name)
    writeValue(writer, value)
  }
}

function writeValue(writer: ByteWriter, field: FieldValue): void {
  writer.u8(field.type === 'x' && field.isLongString ? LONG_STRING : field.type.charCodeAt(0))
  switch (field.type) {
    case 't':
      writer.u8(field.value ? 1 : 0)
      break
    case 'l':
      writer.bigI64(field.value)
      break
    case 'T':
      writer.bigU64(field.value)
      break
    case 'D':
      writer.u8(field.scale)
      writer.u32(field.value)
      break
    case 'S':
      writer.longString(field.value)
      break
    case 'x':
      writer.longBytes(field.value)
      break
    case 'A':
      writer.varint(field.value.length)
      for (const item of field.value) writeValue(writer, item)
      break
    case 'F':
      writeTable(writer, field.value)
      break
    case 'V':
      break
    default:
      writer.f64(field.value)
  }
}

export function readTable(reader: BytesReader, depth = 0): FieldTable {
  if (depth > DEPTH_MAX) throw new BytesError('table too deep')
  const count = reader.varint()
  const table: [string, FieldValue][] = []
  for (let i = 0; i < count; i++) table.push([reader.shortString(), readValue(reader, depth)])
  return table
}

function readValue(reader: BytesReader, depth: number): FieldValue {
  const type = String.fromCharCode(reader.u8())
  if (isNumberType(type)) return { type, value: reader.f64() }
  switch (type) {
    case 't':
      return { type, value: reader.u8() !== 0 }
    case 'l':
      return { type, value: reader.bigI64() }
    case 'T':
      return { type, value: reader.bigU64() }
    case 'D':
      return { type, scale: reader.u8(), value: reader.u32() }
    case 'S':
      return longString(reader.longBytes())
    case 'x':
      return { type, value: reader.longBytes() }
    case 'A':
      return { type, value: readArray(reader, depth + 1) }
    case 'F':
      return { type, value: readTable(reader, depth + 1) }
    case 'V':
      return { type, value: null }
    default:
      throw new BytesError(`unknown field type ${type}`)
  }
}

/** As its publisher wrote it: it need not be text. */
function longString(bytes: Buffer): FieldValue {
  if (isUtf8(bytes)) return { type: 'S', value: bytes.toString('utf8') }
  return { type: 'x', value: bytes, isLongString: true }
}

function readArray(reader: BytesReader, depth: number): FieldValue[] {
  if (depth > DEPTH_MAX) throw new BytesError('array too deep')
  const count = reader.varint()
  const items: FieldValue[] = []
  for (let i = 0; i < count; i++) items.push(readValue(reader, depth))
  return items
}
