/** Records of queues, exchanges and bindings: as declared, and as a checkpoint repeats them. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import { KeyCache } from '../deduplication.ts'
import { DelayStore } from '../delay-store.ts'
import { EXCHANGE_KINDS, Exchange } from '../exchange.ts'
import type { FieldTable } from '../field-table.ts'
import { Queue } from '../queue.ts'
import { declaredOptions, queueOptions } from '../queue-options.ts'
import type { State } from '../state.ts'
import { readTable, writeTable } from './field-table.ts'

/** A durable queue with nothing in it; `nextSequence` and `redeliveredBelow` go on where they were. */
export function writeQueue(writer: ByteWriter, queue: Queue): void {
  writer.varint(queue.id)
  writer.shortString(queue.vhost)
  writer.shortString(queue.name)
  const options = declaredOptions(queue.options)
  const { isExclusive, isAutoDelete, isConfigured } = options
  writer.u8((isExclusive ? 1 : 0) | (isAutoDelete ? 2 : 0) | (isConfigured ? 4 : 0))
  writer.varint(queue.nextSequence)
  writeTable(writer, options.arguments)
  writer.varint(queue.redeliveredBelow)
}

/**
 * A queue that is there already stays as it is, with all that it holds: it came into being behind the
 * checkpoint's begin, or the checkpoint is not the one that replay began with, and may be cut off before
 * what follows in it.
 */
export function applyQueue(state: State, reader: BytesReader): boolean {
  const id = reader.varint()
  const vhost = reader.shortString()
  const name = reader.shortString()
  const flags = reader.u8()
  const nextSequence = reader.varint()
  const options = queueOptions(
    {
      isDurable: true,
      isExclusive: (flags & 1) !== 0,
      isAutoDelete: (flags & 2) !== 0,
      isConfigured: (flags & 4) !== 0
    },
    readTable(reader)
  )
  const redeliveredBelow = reader.remaining === 0 ? 0 : reader.varint()
  const old = state.queueOf(id)
  if (old !== null) {
    if (nextSequence > old.nextSequence) old.nextSequence = nextSequence
    if (redeliveredBelow > old.redeliveredBelow) old.redeliveredBelow = redeliveredBelow
    return true
  }
  if (id < 1 || state.vhost(vhost) === null) return false
  const queue = new Queue(id, name, vhost, options, false)
  queue.nextSequence = nextSequence
  queue.redeliveredBelow = redeliveredBelow
  state.addQueue(queue)
  return true
}

/** A level of a queue with priorities: its queue stands before it. */
export function writeQueueLevel(writer: ByteWriter, level: Queue): void {
  const levels = level.levels!
  writer.varint(level.id)
  writer.varint(levels.owner.id)
  writer.u8(levels.priorityOf(level))
  writer.varint(level.nextSequence)
  writer.varint(level.redeliveredBelow)
}

export function applyQueueLevel(state: State, reader: BytesReader): boolean {
  const id = reader.varint()
  const owner = state.queueOf(reader.varint())
  const priority = reader.u8()
  const nextSequence = reader.varint()
  const redeliveredBelow = reader.remaining === 0 ? 0 : reader.varint()
  if (owner === null || id < 1) return false
  const level = state.queueOf(id) ?? state.addLevel(owner, id, priority)
  if (level === null || level.levels !== owner.levels) return false
  if (nextSequence > level.nextSequence) level.nextSequence = nextSequence
  if (redeliveredBelow > level.redeliveredBelow) level.redeliveredBelow = redeliveredBelow
  return true
}

export function applyQueueDelete(state: State, reader: BytesReader): boolean {
  const queue = state.queueOf(reader.varint())
  if (queue === null) return false
  state.removeQueue(queue)
  return true
}

/** Of an exchange: it is of type `x-delayed-message`, and its store's id stands at the end. */
const DELAYS = 4
/** It is of type `x-message-deduplication`; the id of its cache stands at the end, and which number is next. */
const DEDUPLICATES = 8

export function writeExchange(writer: ByteWriter, vhost: string, exchange: Exchange): void {
  writer.shortString(vhost)
  writer.shortString(exchange.name)
  writer.u8(EXCHANGE_KINDS.indexOf(exchange.kind))
  const { delay, cache } = exchange
  writer.u8(
    (exchange.isAutoDelete ? 1 : 0) |
      (exchange.isInternal ? 2 : 0) |
      (delay === null ? 0 : DELAYS) |
      (cache === null ? 0 : DEDUPLICATES)
  )
  writeTable(writer, exchange.arguments)
  if (cache !== null) {
    writer.varint(cache.id)
    writer.varint(cache.nextSequence)
    writer.varint(cache.floor)
  }
  if (delay === null) return
  writer.varint(delay.id)
  writer.varint(delay.nextSequence)
}

export function applyExchange(state: State, reader: BytesReader): boolean {
  const vhost = reader.shortString()
  const name = reader.shortString()
  const kind = EXCHANGE_KINDS[reader.u8()]
  const flags = reader.u8()
  const table = readTable(reader)
  const owner = state.vhost(vhost)
  const cacheId = (flags & DEDUPLICATES) === 0 ? 0 : reader.varint()
  const nextKey = cacheId === 0 ? 0 : reader.varint()
  const floor = cacheId === 0 ? 0 : reader.varint()
  const delayId = (flags & DELAYS) === 0 ? 0 : reader.varint()
  const nextSequence = delayId === 0 ? 0 : reader.varint()
  if (kind === undefined || owner === null) return false
  const known = owner.exchanges.get(name)
  const delay = delayId === 0 ? null : (known?.delay ?? new DelayStore(delayId, vhost, name, true))
  if (delay !== null && nextSequence > delay.nextSequence) delay.nextSequence = nextSequence
  const cache =
    cacheId === 0 ? null : (known?.cache ?? new KeyCache(cacheId, vhost, name, true, table))
  if (cache !== null) {
    cache.nextSequence = Math.max(cache.nextSequence, nextKey)
    cache.floor = Math.max(cache.floor, floor)
  }
  if (known !== undefined) return true
  const exchange = new Exchange({
    name,
    kind,
    isDurable: true,
    isAutoDelete: (flags & 1) !== 0,
    isInternal: (flags & 2) !== 0,
    arguments: table,
    delay,
    cache
  })
  state.addExchange(vhost, exchange)
  return true
}

export function writeExchangeName(writer: ByteWriter, vhost: string, name: string): void {
  writer.shortString(vhost)
  writer.shortString(name)
}

export function applyExchangeDelete(state: State, reader: BytesReader): boolean {
  const vhost = reader.shortString()
  const exchange = state.vhost(vhost)?.exchanges.get(reader.shortString())
  if (exchange === undefined) return false
  state.removeExchange(vhost, exchange)
  return true
}

/** A binding's destination is a queue, by its id, or an exchange, by its name. */
export function writeBinding(
  writer: ByteWriter,
  vhost: string,
  source: Exchange,
  target: Queue | Exchange,
  key: string,
  table: FieldTable
): void {
  writer.shortString(vhost)
  writer.shortString(source.name)
  if (target instanceof Exchange) {
    writer.u8(1)
    writer.shortString(target.name)
  } else {
    writer.u8(0)
    writer.varint(target.id)
  }
  writer.shortString(key)
  writeTable(writer, table)
}

/** Replay of a bind or unbind record. */
export function applyBinding(state: State, reader: BytesReader, isBind: boolean): boolean {
  const vhost = state.vhost(reader.shortString())
  const source = vhost?.exchanges.get(reader.shortString())
  const isExchange = reader.u8() === 1
  const target = isExchange
    ? vhost?.exchanges.get(reader.shortString())
    : state.queueOf(reader.varint())
  const key = reader.shortString()
  const table = readTable(reader)
  if (vhost === null || source === undefined || target === undefined || target === null)
    return false
  state.changeBinding(vhost, source, target, key, table, isBind)
  return true
}
