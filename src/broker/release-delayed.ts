/**
 * Delayed messages are let go when they are due: routed then, by one record that takes them out of their store
 * and puts them into queues. A timer for the earliest of each store is exact to some milliseconds; many that are
 * due at once leave over several turns.
 */
import { withDelayDone } from '../core/delay.ts'
import type { DelayStore } from '../core/delay-store.ts'
import { ERROR_CODES } from '../core/errors.ts'
import { noteBlindKeys } from '../core/blind-keys.ts'
import { type FieldTable, fieldOf, textsIn } from '../core/field-table.ts'
import { writeDelayEnd } from '../core/records/delay.ts'
import { KIND } from '../core/records/kinds.ts'
import { type BlockWaiter, LAZY } from '../journal/journal.ts'
import { Deadline } from '../lib/deadline-heap.ts'
import { append } from './append.ts'
import { DAMAGED, load, NOT_LOADED, view } from './bodies.ts'
import type { Broker, Timed, TurnTask } from './broker.ts'
import type { Armed } from './hold-back.ts'
import { OwnPublisher } from './own-publisher.ts'
import { publishRouted } from './publish.ts'
import { headersOf, rebuild } from './rewrite.ts'
import { routeDue } from './routing.ts'
import { LEAVING, leaving } from './store.ts'

/** Messages of one store in one turn. */
const BUDGET = 256
/** While the disk's alarm is up nothing is let go. */
const RETRY_MS = 1_000
/** No timer runs longer: whatever happened to it, its store is looked at again. */
const TIMER_MAX_MS = 60_000

/** A store is there, new or found at a start: from now on what is due in it leaves. */
export function attachDelay(broker: Broker, store: DelayStore): void {
  const run = new DelayRun(broker, store)
  store.attached = run
  run.arm()
}

class DelayRun implements Armed, Timed, TurnTask, BlockWaiter {
  readonly #broker: Broker
  readonly #store: DelayStore
  readonly #deadline: Deadline<Timed>
  #timer: NodeJS.Timeout | null
  /** For whom the timer runs. */
  #armedFor: number
  /** For a block, for the disk, for its next turn. */
  #isWaiting: boolean

  constructor(broker: Broker, store: DelayStore) {
    this.#broker = broker
    this.#store = store
    this.#deadline = new Deadline<Timed>(this)
    this.#timer = null
    this.#armedFor = Number.POSITIVE_INFINITY
    this.#isWaiting = false
  }

  arm(): void {
    const { next } = this.#store
    if (this.#isWaiting || next >= this.#armedFor) return
    this.#armedFor = next
    const broker = this.#broker
    // Beside the timer: whoever drives the broker's deadlines drives this one too.
    broker.deadlines.set(this.#deadline, next)
    this.#startTimer(Math.min(Math.max(1, Math.ceil(next - broker.nowMs)), TIMER_MAX_MS))
  }

  stop(): void {
    this.#isWaiting = true
    this.#disarm()
  }

  onDue(): void {
    this.#run()
  }

  /** All that was gathered is durable: there is room for more. */
  onTurnEnd(): void {
    this.#goOn()
  }

  onBlock(segment: number, offset: number, ok: boolean): void {
    const store = this.#store
    // It may have been moved meanwhile: then it is asked for again.
    const isSame = store.first() && store.segment === segment && store.offset === offset
    if (!ok && isSame && !store.isDeleted) this.#giveUp()
    this.#goOn()
  }

  #startTimer(ms: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(onTimer, ms, this)
    this.#timer.unref()
  }

  #disarm(): void {
    this.#armedFor = Number.POSITIVE_INFINITY
    this.#broker.deadlines.clear(this.#deadline)
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  onTimer(): void {
    this.#isWaiting = false
    this.#run()
  }

  #goOn(): void {
    if (this.#store.isDeleted) return
    this.#isWaiting = false
    this.#run()
  }

  #run(): void {
    const broker = this.#broker
    const store = this.#store
    if (this.#isWaiting || store.isDeleted || broker.isStopping) return
    this.#disarm()
    const now = broker.nowMs
    for (let left = BUDGET; store.next <= now; left--) {
      if (left === 0) {
        this.#isWaiting = true
        setImmediate(goOn, this)
        return
      }
      if (broker.isPaused && !broker.journal.failed) {
        this.#isWaiting = true
        broker.untilDurable.add(this)
        // The alarm of memory holds up whoever publishes, too, and then nothing may be on its way to the disk.
        this.#startTimer(RETRY_MS)
        return
      }
      if (this.#isRefused() || !this.#letFirstGo()) return
    }
    this.arm()
  }

  goOn(): void {
    this.#goOn()
  }

  /** What cannot be kept elsewhere stays here. */
  #isRefused(): boolean {
    const { refusal, journal } = this.#broker
    if (refusal === 0 || (journal.failed && !this.#store.isDurable)) return false
    this.#isWaiting = true
    this.#startTimer(RETRY_MS)
    return true
  }

  /** False: it waits for something. */
  #letFirstGo(): boolean {
    const broker = this.#broker
    const store = this.#store
    store.first()
    const found = view(broker, store.segment, store.offset)
    if (found === NOT_LOADED) {
      this.#isWaiting = true
      load(broker, store.segment, store.offset, this)
      return false
    }
    if (found === DAMAGED) {
      this.#giveUp()
      return true
    }
    if (letGo(broker, store)) return true
    this.#isWaiting = true
    this.#startTimer(RETRY_MS)
    return false
  }

  /** The first cannot be read. */
  #giveUp(): void {
    const { vhost, exchange, dueAt, sequence } = this.#store
    this.#broker.counters.dropIn(vhost, exchange, 'damaged')
    this.#broker.log.error({ exchange, sequence }, 'a delayed message is damaged on the disk')
    settle(this.#broker, this.#store, dueAt, sequence, true)
  }
}

function onTimer(run: DelayRun): void {
  run.onTimer()
}

function goOn(run: DelayRun): void {
  run.goOn()
}

function settle(
  broker: Broker,
  store: DelayStore,
  dueAt: number,
  sequence: number,
  isRecorded: boolean
): void {
  broker.state.delays.settle(store, dueAt, sequence)
  if (!isRecorded || !store.isDurable || broker.journal.failed) return
  writeDelayEnd(broker.writer, store, dueAt, sequence)
  append(broker, KIND.delayEnd, LAZY)
}

/** Routes the entry that was found in `store`, and that is read into `broker.stored`. False: the disk takes nothing. */
function letGo(broker: Broker, store: DelayStore): boolean {
  const { dueAt, sequence } = store
  const vhost = broker.state.vhost(store.vhost)!
  const exchange = vhost.exchanges.get(store.exchange)!
  const headers = withDelayDone(headersOf(broker, broker.stored))
  const keys = copyKeys(headers)
  const isBlind = fieldOf(headers, 'BCC') !== null
  const shown = isBlind ? headers.filter(([name]) => name !== 'BCC') : null
  const message = rebuild(broker, broker.stored, shown)
  message.isAwaited = false
  if (store.isDurable) {
    message.recordEnds = LEAVING
    leaving.queueId = store.id
    leaving.sequence = sequence
    leaving.time = dueAt
  }
  const route = routeDue(broker, vhost, exchange, message, headers, keys)
  const result = publishRouted(broker, message, new OwnPublisher(vhost), route)
  if (result === -ERROR_CODES.diskAlarm || result === -ERROR_CODES.journalFailed) return false
  settle(broker, store, dueAt, sequence, message.recordEnds === LEAVING)
  return true
}

/** Further keys of an AMQP message. */
function copyKeys(headers: FieldTable): string[] | null {
  const blind = textsIn(fieldOf(headers, 'BCC'))
  const keys = [...textsIn(fieldOf(headers, 'CC')), ...blind]
  noteBlindKeys(keys, blind)
  return keys.length === 0 ? null : keys
}
