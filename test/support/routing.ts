/** Exchanges and the queues that they route to, in few words; field values for their arguments. */
import { Exchange, type ExchangeKind } from '../../src/core/exchange.ts'
import type { FieldTable, FieldValue } from '../../src/core/field-table.ts'
import { Routes, routeAll } from '../../src/core/route-all.ts'

export const text = (value: string): FieldValue => ({ type: 'S', value })
export const int = (value: number): FieldValue => ({ type: 'I', value })
export const VOID: FieldValue = { type: 'V', value: null }

/** Of an exchange that delays, in front of others. */
export const DELAYED: FieldTable = [
  ['x-delayed-type', text('fanout')],
  ['alternate-exchange', text('f')]
]
/** Of one that lets no key pass twice. */
export const ONCE: FieldTable = [
  ['x-cache-size', int(20)],
  ['x-cache-ttl', int(60_000)],
  ['x-cache-persistence', text('disk')]
]
export const keyed = (key: string): FieldTable => [['x-deduplication-header', text(key)]]
export const delayed = (ms: number): FieldTable => [['x-delay', int(ms)]]

/** Named like its kind unless told otherwise. */
export function exchange(kind: ExchangeKind, name: string = kind): Exchange {
  return new Exchange({ name, kind })
}

/** The ids of the queues that a message reaches, in ascending order. */
export function route(from: Exchange, key: string, headers: FieldTable | null = null): number[] {
  const routes = new Routes()
  routeAll(from, key, headers, routes)
  return routes.queues.map(queue => queue.id).sort((a, b) => a - b)
}
