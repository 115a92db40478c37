/**
 * Typed values as AMQP 0-9-1 field tables carry them (queue and binding arguments, headers), free of
 * their encoding. The letters are RabbitMQ's, which every client uses, not the 0-9-1 document's. A value
 * keeps the type that it came with; a table keeps its order and its repeated names.
 */

/** int8, uint8, int16, uint16, int32, uint32, float, double. */
export type NumberType = 'b' | 'B' | 's' | 'u' | 'I' | 'i' | 'f' | 'd'

export type FieldValue =
  | { readonly type: 't'; readonly value: boolean }
  | { readonly type: NumberType; readonly value: number }
  /** int64; timestamp in seconds since 1970, unsigned. */
  | { readonly type: 'l' | 'T'; readonly value: bigint }
  /** Decimal: `value` / 10^`scale`. */
  | { readonly type: 'D'; readonly scale: number; readonly value: number }
  /** Long string, UTF-8. */
  | { readonly type: 'S'; readonly value: string }
  /** Bytes; also a long string that is no valid UTF-8, which is written as one again. */
  | { readonly type: 'x'; readonly value: Buffer; readonly isLongString?: true }
  | { readonly type: 'A'; readonly value: readonly FieldValue[] }
  | { readonly type: 'F'; readonly value: FieldTable }
  /** Void. */
  | { readonly type: 'V'; readonly value: null }

export type FieldType = FieldValue['type']
export type FieldTable = readonly (readonly [name: string, value: FieldValue])[]

export const EMPTY_TABLE: FieldTable = []

/** The value of `name` in a table, the first one if it is repeated. */
export function fieldOf(table: FieldTable, name: string): FieldValue | null {
  for (const [key, value] of table) if (key === name) return value
  return null
}

export function isNumberType(type: string): type is NumberType {
  return NUMBER_TYPES.has(type)
}

/** The type's value is a JavaScript number. */
export function isNumber(value: FieldValue): value is Extract<FieldValue, { type: NumberType }> {
  return NUMBER_TYPES.has(value.type)
}

const NUMBER_TYPES: ReadonlySet<string> = new Set<NumberType>([
  'b',
  'B',
  's',
  'u',
  'I',
  'i',
  'f',
  'd'
])

/** A whole number, of whichever integer type; null for anything else or beyond 2^53. */
export function integerOf(value: FieldValue): number | null {
  if (isNumber(value)) return value.type === 'f' || value.type === 'd' ? null : value.value
  if (value.type !== 'l' && value.type !== 'T') return null
  const number = Number(value.value)
  return Number.isSafeInteger(number) ? number : null
}

/** RabbitMQ's word for a type, as its error texts use it. */
export function fieldTypeName(type: FieldType): string {
  return TYPE_NAMES[type]
}

const TYPE_NAMES = {
  t: 'bool',
  b: 'byte',
  B: 'unsignedbyte',
  s: 'short',
  u: 'unsignedshort',
  I: 'signedint',
  i: 'unsignedint',
  l: 'long',
  f: 'float',
  d: 'double',
  D: 'decimal',
  S: 'longstr',
  x: 'binary',
  A: 'array',
  T: 'timestamp',
  F: 'table',
  V: 'void'
} as const satisfies Record<FieldType, string>

/** The texts of an array of them; whatever else it is or holds is left out. */
export function textsIn(value: FieldValue | null): string[] {
  if (value?.type !== 'A') return []
  const texts: string[] = []
  for (const item of value.value) if (item.type === 'S') texts.push(item.value)
  return texts
}
