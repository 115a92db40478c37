/**
 * The work of a queue's life: what has expired at its head goes, and what has died leaves for the dead letter
 * exchange. A bounded part of it a turn; bodies that lie on the disk are read first. A dead letter enters its
 * queues in the record that ends it in its old one: a crash finds it here or there.
 */
import { blindKeysIn, noteBlindKeys } from '../core/blind-keys.ts'
import { DEATH_REASONS, type Death, type DeathReason, isCycle, recordDeath } from '../core/death.ts'
import { NOTHING } from '../core/entries.ts'
import type { Exchange } from '../core/exchange.ts'
import { type FieldTable, fieldOf, textsIn } from '../core/field-table.ts'
import { Message } from '../core/message.ts'
import type { MessageProperties } from '../core/properties.ts'
import { COLD, type Queue, readyBytesOf, readyOf } from '../core/queue.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_STATE,
  RELEASED,
  UNACKED
} from '../core/queue-entry.ts'
import { expiryIn, identifiersOf } from '../core/records/message.ts'
import type { Route } from '../core/route.ts'
import type { Chunk } from '../core/chunk.ts'
import type { BlockWaiter } from '../journal/journal.ts'
import { DAMAGED, load, NOT_LOADED, view, viewed } from './bodies.ts'
import type { Broker } from './broker.ts'
import { afterIndexRead, ready, warm } from './deliver.ts'
import { finish } from './finish.ts'
import { armHeld, hold, keptOf, letFirstGo } from './held.ts'
import type { KeptLetters } from './kept-letters.ts'
import { publishDead, takesDead } from './publish.ts'
import { queueClockOf } from './queue-clock.ts'
import { DROPPED, discard, type QueueLife } from './queue-life.ts'
import { propertiesOf, rewrite, routingKeyOf } from './rewrite.ts'
import { routeKey } from './routing.ts'
import { LEAVING, leaving } from './store.ts'

/** What a step came to. */
const DONE = 0
const NO_MORE = 1
/** A block is being read, or the disk takes nothing: it goes on later. */
const WAITS = 2

/** What became of a letter. */
const SENT = 0
/** The disk takes nothing now. */
const NO_ROOM = 1
/** Some queue has no place for it, or it has no route, and its queue keeps such (at-least-once). */
const REFUSED = 2

const letter = new Message()
const NO_KEYS: readonly string[] = []

/** At most so many steps of the work in a queue's life; returns how many it took. */
export function bury(life: QueueLife, most: number): number {
  const { broker, queue } = life
  if (life.isLoading || broker.isStopping) return 0
  if (queue.isDurable && broker.journal.failed) return 0
  for (let done = 0; done < most; done++) {
    const step = stepOf(life)
    if (step === WAITS) return done
    if (step === NO_MORE) {
      // Consumers that met an expired head stopped there. Asked for nothing they would ask for a look again.
      if (life.hasWorked) ready(broker, queue)
      life.hasWorked = false
      return done
    }
    life.hasWorked = true
    broker.turns.deliveries++
  }
  life.schedule()
  return most
}

function stepOf(life: QueueLife): number {
  if (life.refused.size > 0) return sendRefused(life)
  if (life.dead.size > 0) return sendDead(life)
  if (life.isOver) return trimHead(life)
  if (life.isHeldDue) return letHeldGo(life)
  const { kept } = life
  if (kept?.isTrying) return tryKept(life, kept)
  return life.isDue ? expireHead(life) : NO_MORE
}

function sendRefused(life: QueueLife): number {
  const { broker, queue } = life
  const message = life.refused.shift()!
  queueClockOf(broker).refusedBytes -= message.source.length
  // Its publisher knows that it was refused: what cannot be kept now is lost.
  if (send(broker, queue, 0, message, 'maxlen') === NO_ROOM)
    broker.counters.dropFrom(queue, 'disk_alarm')
  return DONE
}

function sendDead(life: QueueLife): number {
  const { broker, queue } = life
  const sequence = life.dead.peek()!
  if (queue.find(sequence) && (queue.flags & ENTRY_STATE) === UNACKED) {
    const found = view(broker, queue.segment, queue.offset)
    if (found === NOT_LOADED) return loadBody(life, sequence)
    if (found === DAMAGED) giveUp(broker, queue, sequence)
    else {
      const reason = life.reasons.peek()!
      const outcome = send(broker, queue, sequence, broker.stored, reason)
      if (outcome === NO_ROOM) {
        life.retry()
        return WAITS
      }
      if (outcome === REFUSED) keepLetter(life, sequence, reason)
    }
  }
  life.dead.shift()
  life.reasons.shift()
  return DONE
}

/** Takes the head away if the queue holds too much. */
function trimHead(life: QueueLife): number {
  const { broker, queue } = life
  const { messagesMax, bytesMax, overflow } = queue.options
  const isOver =
    (messagesMax >= 0 && readyOf(queue) > messagesMax) ||
    (bytesMax >= 0 && readyBytesOf(queue) > bytesMax)
  const head = queue.levels === null ? queue : queue.levels.top()
  const sequence = isOver && overflow === 'drop-head' ? head.next() : NOTHING
  if (sequence === COLD) return warmHead(life, head)
  if (sequence === NOTHING) life.isOver = false
  else discard(broker, head, sequence, 'maxlen', true)
  return DONE
}

/** Nobody took it: it stays where it died, and is tried again. */
function keepLetter(life: QueueLife, sequence: number, reason: DeathReason): void {
  const { broker, queue } = life
  hold(broker, queue, sequence, 0, 1 + DEATH_REASONS.indexOf(reason), 0)
  const kept = keptOf(life)
  if (!kept.isTrying && !kept.deadline.isSet) queueClockOf(broker).keep(kept, kept.backoffMs)
}

/** Tries the next of the dead letters that nobody took. */
function tryKept(life: QueueLife, kept: KeptLetters): number {
  const { broker, queue } = life
  const { letters } = queue
  if (letters === null || !letters.after(0, kept.sequence)) return endRound(life, kept, true)
  const { sequence, flags: why } = letters
  const chunk = queue.coldChunkOf(sequence)
  if (chunk !== null) {
    queue.coldChunk = chunk
    return warmHead(life, queue)
  }
  const isThere = queue.find(sequence) && (queue.flags & ENTRY_STATE) === RELEASED
  const found = isThere ? view(broker, queue.segment, queue.offset) : DAMAGED
  if (found === NOT_LOADED) return loadBody(life, sequence)
  if (found === DAMAGED) {
    broker.state.forgetLetter(queue, sequence)
    if (isThere) giveUp(broker, queue, sequence)
    return DONE
  }
  const outcome = send(broker, queue, sequence, broker.stored, DEATH_REASONS[why - 1]!)
  if (outcome === NO_ROOM) return endRound(life, kept, false)
  if (outcome === REFUSED) {
    return kept.refused(sequence) ? DONE : endRound(life, kept, false)
  }
  kept.sent()
  broker.state.forgetLetter(queue, sequence)
  return DONE
}

function endRound(life: QueueLife, kept: KeptLetters, isAll: boolean): number {
  kept.end(isAll)
  const clock = queueClockOf(life.broker)
  if (life.queue.letters === null) clock.forget(kept)
  else clock.keep(kept, kept.backoffMs)
  return DONE
}

/** The first of those held is ready again, if it is due. */
function letHeldGo(life: QueueLife): number {
  const { broker, queue } = life
  if (queue.held === null || queue.held.next > broker.nowMs) {
    life.isHeldDue = false
    armHeld(life)
  } else {
    letFirstGo(broker, queue)
    // What came meanwhile may have taken its place.
    life.isOver = queue.options.isBounded
  }
  return DONE
}

/** Takes the head away if it has expired. */
function expireHead(life: QueueLife): number {
  const { broker, queue } = life
  const sequence = queue.next()
  if (sequence === COLD) return warmHead(life, queue)
  if (sequence === NOTHING || (queue.flags & ENTRY_EXPIRES) === 0) {
    life.isDue = false
    return NO_MORE
  }
  const found = view(broker, queue.segment, queue.offset)
  if (found === NOT_LOADED) return loadBody(life, sequence)
  if (found === DAMAGED) {
    giveUp(broker, queue, sequence)
    return DONE
  }
  const message = broker.stored
  const expiresAt = expiryIn(message.source, message, viewed.end, queue.id)
  if (expiresAt > broker.nowMs) {
    life.isDue = false
    life.lookAt(expiresAt)
    return NO_MORE
  }
  discard(broker, queue, sequence, 'expired', true)
  return DONE
}

function giveUp(broker: Broker, queue: Queue, sequence: number): void {
  finish(broker, queue, sequence)
  broker.counters.dropFrom(queue, 'damaged')
  broker.log.error({ queue: queue.name, sequence }, 'a message is damaged on the disk')
}

function loadBody(life: QueueLife, sequence: number): number {
  life.isLoading = true
  const { segment, offset } = life.queue
  load(life.broker, segment, offset, new LifeWaiter(life, life.queue, sequence, null))
  return WAITS
}

/** `queue` is the life's own, or the level of it that is at the head. */
function warmHead(life: QueueLife, queue: Queue): number {
  const chunk = queue.coldChunk!
  if (warm(life.broker, queue, chunk)) return DONE
  life.isLoading = true
  load(life.broker, chunk.segment, chunk.offset, new LifeWaiter(life, queue, 0, chunk))
  return WAITS
}

/** Goes on when a body, or a chunk's index, was read. */
class LifeWaiter implements BlockWaiter {
  readonly #life: QueueLife
  readonly #queue: Queue
  readonly #sequence: number
  readonly #chunk: Chunk | null

  constructor(life: QueueLife, queue: Queue, sequence: number, chunk: Chunk | null) {
    this.#life = life
    this.#queue = queue
    this.#sequence = sequence
    this.#chunk = chunk
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const life = this.#life
    const queue = this.#queue
    const { broker } = life
    life.isLoading = false
    if (queue.isDeleted) return
    if (this.#chunk !== null) afterIndexRead(broker, queue, this.#chunk, segment, offset, ok)
    else if (!ok && queue.find(this.#sequence)) {
      // It may have been moved or settled while its block was read.
      if (queue.segment === segment && queue.offset === offset) {
        giveUp(broker, queue, this.#sequence)
      }
    }
    life.schedule()
  }
}

/**
 * Publishes a message that died in a queue to its dead letter exchange; unless it is `NO_ROOM` or `REFUSED`, it is in
 * that queue no more. Sequence 0: it never was.
 */
function send(
  broker: Broker,
  queue: Queue,
  sequence: number,
  message: Message,
  reason: DeathReason
): number {
  const vhost = broker.state.vhost(queue.vhost)!
  const { deadLetterExchange } = queue.options
  const keeps = queue.options.keepsLetters && sequence > 0
  const exchange = deadLetterExchange === null ? undefined : vhost.exchanges.get(deadLetterExchange)
  if (exchange === undefined) {
    if (keeps) return REFUSED
    if (sequence > 0) finish(broker, queue, sequence)
    broker.counters.dropFrom(queue, DROPPED[reason])
    return SENT
  }
  blindKeys = sequence > 0 ? blindKeysOf(queue, message) : NO_KEYS
  const deaths = write(broker, queue, message, reason, exchange)
  const route = routeOf(broker, queue, exchange)
  const needsDisk = route.hasDurableQueue || route.hasLastingSession
  const bytes = letter.payloadEnd - letter.payloadStart
  if (needsDisk && (broker.refusal !== 0 || !broker.journal.hasRoomFor(bytes))) return NO_ROOM
  const isOver = (name: string): boolean => reason !== 'rejected' && isCycle(deaths, name)
  if (keeps && !takesDead(broker, letter, route, isOver)) {
    letter.source = EMPTY
    return REFUSED
  }
  const isKept = queue.isDurable && sequence > 0
  letter.recordEnds = isKept ? LEAVING : 0
  leaving.queueId = queue.id
  leaving.sequence = sequence
  leaving.time = 0
  const isOut = publishDead(broker, letter, route, isOver)
  if (isOut) broker.counters.deadLettered[reason]++
  else broker.counters.dropFrom(queue, DROPPED[reason])
  const isRecorded = isKept && letter.recordEnds !== LEAVING
  letter.recordEnds = 0
  letter.source = EMPTY
  if (sequence === 0) return SENT
  if (isRecorded) broker.state.settleEntry(queue, sequence)
  else finish(broker, queue, sequence)
  return SENT
}

/** BCC keys, which a letter without a key of its own goes to again. The entry was found, and its record viewed, just now. */
function blindKeysOf(queue: Queue, message: Message): readonly string[] {
  if (queue.options.deadLetterKey !== null || (queue.flags & ENTRY_HAS_IDS) === 0) return NO_KEYS
  const numbers = identifiersOf(message.source, message, viewed.end, queue.id)
  return numbers === null ? NO_KEYS : blindKeysIn(numbers)
}

/** The letter in AMQP's form, with its deaths in its headers. */
function write(
  broker: Broker,
  queue: Queue,
  message: Message,
  reason: DeathReason,
  exchange: Exchange
): FieldTable[] {
  const properties = propertiesOf(broker, message)
  const key = routingKeyOf(message, properties)
  const death: Death = {
    queue: queue.name,
    reason,
    exchange: message.exchange,
    keys: [key, ...copiesOf(properties)],
    time: Math.floor(broker.clock.wallMs() / 1_000)
  }
  const deaths = recordDeath(properties, death)
  const { deadLetterKey } = queue.options
  if (deadLetterKey !== null) {
    properties.headers = properties.headers.filter(([name]) => name !== 'CC')
  }
  headers = properties.headers
  rewrite(broker, letter, message, deadLetterKey ?? key, properties)
  letter.expiresAt = 0
  letter.exchange = exchange.name
  return deaths
}

/** Of the letter that was written last. */
let headers: FieldTable = []
let blindKeys: readonly string[] = NO_KEYS

function routeOf(broker: Broker, queue: Queue, exchange: Exchange): Route {
  const vhost = broker.state.vhost(queue.vhost)!
  const copies = copiesIn(headers)
  if (blindKeys.length > 0) {
    copies.push(...blindKeys)
    noteBlindKeys(copies, blindKeys)
  }
  return routeKey(
    broker,
    vhost,
    exchange,
    letter.key,
    exchange.readsHeaders ? headers : null,
    copies.length > 0 ? copies : null,
    letter
  )
}

function copiesOf(properties: MessageProperties): string[] {
  return copiesIn(properties.headers)
}

/** Further keys of a message (RabbitMQ's sender-selected distribution). */
function copiesIn(table: FieldTable): string[] {
  return textsIn(fieldOf(table, 'CC'))
}

const EMPTY = Buffer.alloc(0)
