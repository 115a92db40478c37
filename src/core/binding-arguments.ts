/**
 * The arguments of a binding: what makes two bindings the same, and what a binding of a headers
 * exchange asks of a message.
 */
import { BrokerError } from './errors.ts'
import {
  type FieldTable,
  type FieldType,
  type FieldValue,
  fieldOf,
  fieldTypeName
} from './field-table.ts'

/** A message's headers by name, for many bindings to look at; of a repeated name the first counts. */
export type HeaderMap = ReadonlyMap<string, FieldValue>

export function headerMap(headers: FieldTable | null): HeaderMap {
  const map = new Map<string, FieldValue>()
  if (headers === null) return map
  for (const [name, value] of headers) if (!map.has(name)) map.set(name, value)
  return map
}

/** What a binding of a headers exchange asks for, compiled once. */
export class HeadersMatch {
  private readonly isAny: boolean
  private readonly names: string[]
  private readonly values: FieldValue[]

  /**
   * `x-match`: all (the default), any, all-with-x, any-with-x; anything else is a `BrokerError`
   * argumentInvalid. `x-match` itself never counts, other names with `x-` only with `-with-x`.
   */
  constructor(table: FieldTable) {
    const mode = matchMode(table)
    const countsX = mode.endsWith('-with-x')
    this.isAny = mode.startsWith('any')
    this.names = []
    this.values = []
    for (const [name, value] of table) {
      if (name === 'x-match' || (name.startsWith('x-') && !countsX)) continue
      this.names.push(name)
      this.values.push(value)
    }
  }

  /** With nothing to ask for, `all` matches every message and `any` none. */
  matches(headers: HeaderMap): boolean {
    for (let i = 0; i < this.names.length; i++) {
      const wanted = this.values[i] as FieldValue
      const found = headers.get(this.names[i] as string)
      // A void value asks for presence alone.
      const isMatch =
        found !== undefined && (wanted.type === 'V' || fieldValuesMatch(wanted, found))
      if (isMatch === this.isAny) return this.isAny
    }
    return !this.isAny
  }
}

/**
 * Equal as RabbitMQ compares headers: the values alone. An integer equals an integer of another width,
 * a float a double; an integer never a float, a string never a number.
 */
export function fieldValuesMatch(a: FieldValue, b: FieldValue): boolean {
  if (KINDS[a.type] !== KINDS[b.type]) return false
  switch (a.type) {
    case 'A':
      return b.type === 'A' && arraysMatch(a.value, b.value)
    case 'F':
      return b.type === 'F' && tablesMatch(a.value, b.value)
    case 'D':
      return b.type === 'D' && a.scale === b.scale && a.value === b.value
    case 'x':
      return b.type === 'x' && a.isLongString === b.isLongString && a.value.equals(b.value)
    case 'l':
    case 'T':
      return a.value === BigInt(b.value as number | bigint)
    default:
      return a.value === (typeof b.value === 'bigint' ? Number(b.value) : b.value)
  }
}

/**
 * A text that is the same for two tables exactly when names, types and values are; '' for an empty
 * one. The order of names does not count.
 */
export function tableIdentity(table: FieldTable): string {
  if (table.length === 0) return ''
  return table
    .map(([name, value]) => quoted(name) + valueIdentity(value))
    .sort()
    .join('')
}

/** Types whose values may be equal. */
const KINDS = {
  t: 'boolean',
  b: 'integer',
  B: 'integer',
  s: 'integer',
  u: 'integer',
  I: 'integer',
  i: 'integer',
  l: 'integer',
  T: 'integer',
  f: 'float',
  d: 'float',
  D: 'decimal',
  S: 'text',
  x: 'bytes',
  A: 'array',
  F: 'table',
  V: 'void'
} as const satisfies Record<FieldType, string>

function matchMode(table: FieldTable): string {
  const given = fieldOf(table, 'x-match')
  if (given === null) return 'all'
  switch (given.type === 'S' ? given.value : null) {
    case 'all':
      return 'all'
    case 'any':
      return 'any'
    case 'all-with-x':
      return 'all-with-x'
    case 'any-with-x':
      return 'any-with-x'
    default:
      throw new BrokerError('argumentInvalid', explainMatch(given), {
        argument: 'x-match',
        type: given.type
      })
  }
}

/** RabbitMQ's words. */
function explainMatch(given: FieldValue): string {
  if (given.type === 'S') {
    return `Invalid x-match field value <<"${given.value}">>; expected all, any, all-with-x, or any-with-x`
  }
  return `Invalid x-match field type ${fieldTypeName(given.type)} (value ${given.value}); expected longstr`
}

function arraysMatch(a: readonly FieldValue[], b: readonly FieldValue[]): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) {
    if (!fieldValuesMatch(a[i] as FieldValue, b[i] as FieldValue)) return false
  }
  return true
}

function tablesMatch(a: FieldTable, b: FieldTable): boolean {
  if (a.length !== b.length) return false
  const found = headerMap(b)
  for (const [name, value] of a) {
    const other = found.get(name)
    if (other === undefined || !fieldValuesMatch(value, other)) return false
  }
  return true
}

export function valueIdentity(value: FieldValue): string {
  switch (value.type) {
    case 'F':
      return `F(${tableIdentity(value.value)})`
    case 'A':
      return `A(${value.value.map(valueIdentity).join('')})`
    case 'D':
      return `D${value.scale}:${value.value};`
    case 'S':
      return `S${quoted(value.value)}`
    case 'x':
      return `${value.isLongString ? 'X' : 'x'}${value.value.toString('hex')};`
    default:
      return value.type + (Object.is(value.value, -0) ? '-0' : String(value.value)).concat(';')
  }
}

/** With its length before it: no text can be taken for the end of it. */
function quoted(text: string): string {
  return `${text.length}'${text}`
}
