/**
 * What a dead letter says about its deaths, in its headers, as RabbitMQ writes them: `x-death` is an array,
 * the newest first, with one table for each queue and reason; `x-first-death-…` never change again. The
 * history is read back from the header, also from one that a client published again.
 */
import { type FieldTable, type FieldValue, fieldOf, integerOf } from './field-table.ts'
import type { Header, MessageProperties } from './properties.ts'

/** Records name them by their places: new ones come behind. */
export const DEATH_REASONS = ['expired', 'rejected', 'maxlen', 'delivery_limit'] as const
export type DeathReason = (typeof DEATH_REASONS)[number]

export interface Death {
  readonly queue: string
  readonly reason: DeathReason
  /** Where the message had been published to, and its routing keys (without BCC ones). */
  readonly exchange: string
  readonly keys: readonly string[]
  /** Seconds since 1970. */
  readonly time: number
}

type Field = FieldTable[number]

const DEATHS = 'x-death'
/** One message goes through this many different queues at most: what is older is forgotten. */
const DEATHS_MAX = 100

/** Writes a death into the headers, and takes the expiry away. Returns the deaths, the newest first. */
export function recordDeath(properties: MessageProperties, death: Death): FieldTable[] {
  const old = deathsOf(properties.headers)
  const same = old.find(table => isOf(table, death.queue, death.reason))
  const newest = same === undefined ? deathTable(death, properties.expiration) : countedAgain(same)
  // RabbitMQ sorts the fields, but for those of the very first death.
  if (old.length > 0) newest.sort(byName)
  const deaths = [newest, ...old.filter(table => table !== same)].slice(0, DEATHS_MAX)
  const headers = properties.headers.filter(([name]) => name !== DEATHS && !isLastDeath(name))
  if (old.length === 0) pushDeath(headers, 'x-first-death', death)
  pushDeath(headers, 'x-last-death', death)
  headers.push([DEATHS, { type: 'A', value: deaths.map(value => ({ type: 'F', value })) }])
  properties.headers = headers.sort(byName)
  properties.expiration = null
  return deaths
}

/**
 * The message would go round without end: it died in this queue before, and nobody rejected it since
 * (whoever rejects decides so each time).
 */
export function isCycle(deaths: readonly FieldTable[], queue: string): boolean {
  for (const table of deaths) {
    if (textIn(table, 'reason') === 'rejected') return false
    if (textIn(table, 'queue') === queue) return true
  }
  return false
}

/**
 * One table for each queue and reason. RabbitMQ before 3.5 wrote one for each death, without a count: such ones are
 * counted, as RabbitMQ does, so that a history does not grow without end.
 */
function deathsOf(headers: FieldTable): FieldTable[] {
  const value = fieldOf(headers, DEATHS)
  if (value?.type !== 'A') return []
  const counts = new Map<string, number>()
  const deaths: FieldTable[] = []
  for (const item of value.value) {
    if (item.type !== 'F') continue
    const count = (counts.get(keyOf(item.value)) ?? 0) + 1
    counts.set(keyOf(item.value), count)
    if (count === 1) deaths.push(item.value)
  }
  return deaths.map(table => withCount(table, counts.get(keyOf(table))!))
}

function keyOf(table: FieldTable): string {
  return `${textIn(table, 'queue')}\0${textIn(table, 'reason')}`
}

function withCount(table: FieldTable, count: number): FieldTable {
  if (fieldOf(table, 'count') !== null) return table
  return [['count', { type: 'l', value: BigInt(count) }], ...table]
}

function isOf(table: FieldTable, queue: string, reason: string): boolean {
  return textIn(table, 'queue') === queue && textIn(table, 'reason') === reason
}

/** In RabbitMQ's order. */
function deathTable(death: Death, expiration: string | null): Field[] {
  const table: Field[] = [
    ['count', { type: 'l', value: 1n }],
    ['reason', text(death.reason)],
    ['queue', text(death.queue)],
    ['time', { type: 'T', value: BigInt(death.time) }],
    ['exchange', text(death.exchange)],
    ['routing-keys', { type: 'A', value: death.keys.map(text) }]
  ]
  if (expiration !== null) table.push(['original-expiration', text(expiration)])
  return table
}

/** The first time, exchange and keys stay as they were. */
function countedAgain(table: FieldTable): Field[] {
  const value = fieldOf(table, 'count')
  const count = BigInt((value === null ? null : integerOf(value)) ?? 0) + 1n
  return [['count', { type: 'l', value: count }], ...table.filter(([name]) => name !== 'count')]
}

function isLastDeath(name: string): boolean {
  return name.startsWith('x-last-death-')
}

function pushDeath(headers: Header[], prefix: string, death: Death): void {
  headers.push(
    [`${prefix}-exchange`, text(death.exchange)],
    [`${prefix}-queue`, text(death.queue)],
    [`${prefix}-reason`, text(death.reason)]
  )
}

function text(value: string): FieldValue {
  return { type: 'S', value }
}

function textIn(table: FieldTable, name: string): string | null {
  const value = fieldOf(table, name)
  return value?.type === 'S' ? value.value : null
}

/** RabbitMQ sorts the headers that it writes to; a stable sort, names may be repeated. */
function byName(a: Field, b: Field): number {
  return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0
}
