/**
 * Exchanges that give each message to one of their bindings. `x-consistent-hash` picks by what is hashed: the same
 * text goes to the same binding while that is there, each gets its share by weight (its binding key), and when one
 * comes or goes only its own share moves: weighted rendezvous hashing, as exact as the hash is, with no table to
 * keep. `x-random` picks any.
 */
import { valueIdentity } from './binding-arguments.ts'
import { BrokerError } from './errors.ts'
import { type FieldTable, fieldOf } from './field-table.ts'

export const CONSISTENT_HASH = 'x-consistent-hash'
export const RANDOM = 'x-random'
/** Stands before the name of a property among the headers that are routed by: no header begins with it. */
export const PROPERTY_PREFIX = '\0'
const HASH_HEADER = 'hash-header'
const HASH_PROPERTY = 'hash-property'
export const HASHED_PROPERTIES = ['message_id', 'correlation_id', 'timestamp'] as const
const WEIGHT_MAX = 1_000_000
const TWO_32 = 4_294_967_296

interface Weighted {
  readonly key: string
  readonly queue: { readonly id: number } | null
  readonly exchange: { readonly name: string } | null
}

/** The arguments of an exchange of type `x-consistent-hash` make sense, or it is not declared. */
export function checkHashArguments(table: FieldTable): void {
  const header = fieldOf(table, HASH_HEADER)
  const property = fieldOf(table, HASH_PROPERTY)
  if (header !== null && property !== null) {
    throw refused('hash-header and hash-property are mutually exclusive')
  }
  if (header !== null && header.type !== 'S') throw refused("invalid arg 'hash-header'")
  if (property === null) return
  const name = property.type === 'S' ? property.value : ''
  if (!HASHED_PROPERTIES.some(each => each === name)) {
    throw refused(`Unsupported property: ${property.value}`)
  }
}

/** A binding key is a weight. */
export function checkWeight(key: string): void {
  if (weightOf(key) > 0) return
  throw refused(`The binding key must be an integer: <<"${key}">>`)
}

function weightOf(key: string): number {
  return /^\d{1,7}$/.test(key) ? Math.min(Number(key), WEIGHT_MAX) : 0
}

function refused(message: string): BrokerError {
  return new BrokerError('preconditionFailed', message, { kind: 'exchange' })
}

/** It hashes a property that is no header. */
export function hashesProperty(table: FieldTable): boolean {
  return fieldOf(table, HASH_PROPERTY) !== null
}

/** It hashes the routing key, so that its answers may be remembered by it. */
export function hashesKey(table: FieldTable): boolean {
  return !hashesProperty(table) && fieldOf(table, HASH_HEADER) === null
}

/** What is hashed of a message; one that lacks it counts as empty. */
export function hashedText(table: FieldTable, key: string, headers: FieldTable | null): string {
  if (hashesKey(table)) return key
  const property = fieldOf(table, HASH_PROPERTY)
  const named = property ?? fieldOf(table, HASH_HEADER)
  const name = named?.type === 'S' ? named.value : ''
  const value = fieldOf(headers ?? [], property === null ? name : PROPERTY_PREFIX + name)
  return value === null ? '' : valueIdentity(value)
}

export function pickByHash<T extends Weighted>(bindings: readonly T[], text: string): T | null {
  const hash = hashOf(text, 0)
  let best: T | null = null
  let highest = -1
  for (const binding of bindings) {
    const { queue, exchange, key } = binding
    const own = queue === null ? hashOf(exchange?.name ?? '', 1) : mix(queue.id)
    const mixed = mix((hash ^ Math.imul(mix(own ^ hashOf(key, 2)), 0x9e3779b1)) >>> 0)
    const score = weightOf(key) / -Math.log((mixed + 0.5) / TWO_32)
    if (score <= highest) continue
    highest = score
    best = binding
  }
  return best
}

/** FNV-1a over the characters, then mixed. */
function hashOf(text: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed
  for (let i = 0; i < text.length; i++) {
    const character = text.charCodeAt(i)
    hash = Math.imul(hash ^ (character & 0xff), 0x01000193)
    hash = Math.imul(hash ^ (character >> 8), 0x01000193)
  }
  return mix(hash)
}

/** MurmurHash3's last step: every bit of the answer depends on every bit. */
function mix(value: number): number {
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35)
  return (value ^ (value >>> 16)) >>> 0
}

/** Numbers below `count` in an order that nobody foresees, for one exchange. */
export class Dice {
  #state: number

  constructor(name: string) {
    this.#state = hashOf(name, 3)
  }

  roll(count: number): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    return Math.floor((mix(this.#state) / TWO_32) * count)
  }
}
