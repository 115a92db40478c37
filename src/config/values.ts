/** One value of an option, read from what a file, a flag or a variable says. */
import type { Option } from './options.ts'
import { shown } from './mistake.ts'

/** What says how a value is read. */
type Form = Pick<Option<unknown>, 'kind' | 'choices' | 'min' | 'max'>

export type Parsed<V> =
  | { readonly ok: true; readonly value: V }
  | { readonly ok: false; readonly why: string }

const good = <V>(value: V): Parsed<V> => ({ ok: true, value })
const bad = (why: string): Parsed<never> => ({ ok: false, why })

const KIB = 1024
const BYTE_UNITS: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1000,
  mb: 1000 ** 2,
  gb: 1000 ** 3,
  kib: KIB,
  mib: KIB ** 2,
  gib: KIB ** 3
}
const TIME_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000
}

/** Reads a single value. Lists and structures are read by `structures.ts` and `listener-url.ts`. */
export function parseValue(option: Form, raw: unknown): Parsed<unknown> {
  switch (option.kind) {
    case 'text':
      return parseText(raw)
    case 'choice':
      if (typeof raw === 'string' && option.choices.includes(raw)) return good(raw)
      return bad(`${shown(raw)} is not one of ${option.choices.join(', ')}`)
    case 'boolean':
      return parseBoolean(raw)
    case 'count':
      return bounded(option, parseNumber(raw, null, 'whole number', ''))
    case 'bytes':
      return bounded(
        option,
        parseNumber(
          raw,
          BYTE_UNITS,
          'size',
          ' of bytes, or a number with KiB, MiB, GiB, kB, MB or GB'
        )
      )
    case 'ms':
      return bounded(
        option,
        parseNumber(
          raw,
          TIME_UNITS_MS,
          'time',
          ' of milliseconds, or a number with ms, s, min, h or d'
        )
      )
    case 'seconds':
      return bounded(option, parseSeconds(raw))
    case 'texts':
    case 'listeners':
    case 'users':
    case 'topics':
    case 'queues':
    case 'bridges':
      throw new TypeError(`${option.kind} is a list`)
  }
}

function parseText(raw: unknown): Parsed<string> {
  if (typeof raw !== 'string') return bad(`${shown(raw)} is no text; put it in quotes`)
  if (raw === '') return bad('the text is empty')
  if (/[\u0000-\u001f\u007f]/.test(raw)) return bad(`${shown(raw)} holds a control character`)
  return good(raw)
}

function parseBoolean(raw: unknown): Parsed<boolean> {
  if (raw === true || raw === 'true') return good(true)
  if (raw === false || raw === 'false') return good(false)
  return bad(`${shown(raw)} is neither true nor false`)
}

function parseNumber(
  raw: unknown,
  units: Readonly<Record<string, number>> | null,
  what: string,
  hint: string
): Parsed<number> {
  const refused = bad(`${shown(raw)} is no ${what}; write a number${hint}`)
  if (typeof raw === 'number') return Number.isFinite(raw) ? good(raw) : refused
  if (typeof raw !== 'string') return refused
  const match = /^(\d[\d_]*(?:\.\d+)?)\s*([A-Za-z%]*)$/.exec(raw.trim())
  if (match === null) return refused
  const number = Number(match[1]!.replaceAll('_', ''))
  const unit = match[2]!
  if (unit === '') return good(number)
  if (units === null) return refused
  const factor = units[unit.toLowerCase()]
  return factor === undefined ? refused : good(Math.round(number * factor))
}

function parseSeconds(raw: unknown): Parsed<number> {
  const hint = ' of seconds, or a number with ms, s, min, h or d'
  const hasUnit = typeof raw === 'string' && /[A-Za-z]\s*$/.test(raw)
  const parsed = parseNumber(raw, TIME_UNITS_MS, 'time', hint)
  return parsed.ok && hasUnit ? good(parsed.value / 1000) : parsed
}

function bounded(option: Form, parsed: Parsed<number>): Parsed<number> {
  if (!parsed.ok) return parsed
  const value = parsed.value
  if (!Number.isInteger(value)) return bad(`${value} is not whole`)
  if (value < option.min) return bad(`${value} is less than ${option.min}, the least allowed`)
  if (value > option.max) return bad(`${value} is more than ${option.max}, the most allowed`)
  return parsed
}
