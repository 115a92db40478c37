/**
 * The `x-delay` header (RabbitMQ's delayed message exchange): how many milliseconds a message is held back. A
 * message that was held shows the delay negated, so nothing delays it a second time.
 */
import type { FieldTable, FieldValue } from './field-table.ts'
import { fieldOf, isNumber } from './field-table.ts'

export const DELAY_HEADER = 'x-delay'
const INT32_MAX = 0x7fffffff

/** Whole milliseconds above 0; 0 for what is missing, negative or no number: routed at once. */
export function delayOf(headers: FieldTable | null): number {
  const value = headers === null ? null : fieldOf(headers, DELAY_HEADER)
  if (value === null) return 0
  const number = numberOf(value)
  return number >= 1 ? Math.min(Math.trunc(number), Number.MAX_SAFE_INTEGER) : 0
}

function numberOf(value: FieldValue): number {
  if (isNumber(value)) return value.value
  switch (value.type) {
    case 'D':
      return value.value / 10 ** value.scale
    case 'S':
      return /^\s*\+?\d+(\.\d*)?\s*$/.test(value.value) ? Number(value.value) : 0
    case 'l':
    case 'T':
      return Number(value.value)
    default:
      return 0
  }
}

/** The headers as they are delivered: a delay is negated, in a type that can say so. */
export function withDelayDone(headers: FieldTable): FieldTable {
  if (delayOf(headers) === 0) return headers
  return headers.map(field =>
    field[0] === DELAY_HEADER ? [DELAY_HEADER, negated(field[1])] : field
  )
}

function negated(value: FieldValue): FieldValue {
  switch (value.type) {
    case 'f':
    case 'd':
      return { type: value.type, value: -value.value }
    case 'S':
      return { type: 'S', value: `-${value.value.trim().replace('+', '')}` }
    case 'D':
      return { type: 'd', value: -numberOf(value) }
    default: {
      const number = numberOf(value)
      if (number <= INT32_MAX) return { type: 'I', value: -number }
      return { type: 'l', value: -BigInt(value.value as number | bigint) }
    }
  }
}
