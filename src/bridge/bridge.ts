/**
 * One bridge: a consumer of a durable queue that hands what it gets to a link, and settles it when the far side has
 * confirmed. Until then it is the queue's: when the link is lost, everything that is not confirmed goes back to its
 * original place, in order, and is sent again with the identifier it had.
 *
 * - A message leaves only when its own record is durable: else a power cut could give its sequence to another one,
 *   which would carry an identifier that the far side has seen.
 * - What the far side refuses stops the line until everything else on its way is settled; then it is sent again, in
 *   order. Refused too often, it goes to the dead letter queue.
 * - Nothing here has a timer: `tick` compares deadlines with the clock.
 */
import type { Broker, TurnTask } from '../broker/broker.ts'
import type { BridgeState } from '../broker/bridges.ts'
import { cancel, consume } from '../broker/consumers.ts'
import type { Consumer } from '../broker/consumer.ts'
import { ready } from '../broker/deliver.ts'
import { putBack, settle } from '../broker/settle.ts'
import { BrokerError } from '../core/errors.ts'
import type { Message } from '../core/message.ts'
import { type Queue, readyOf } from '../core/queue.ts'
import type { Clock } from '../lib/clock.ts'
import { Fifo } from '../lib/fifo.ts'
import { Backoff } from './backoff.ts'
import { buryAtFarSide, openQueue } from './bridge-queue.ts'
import {
  type Link,
  LinkError,
  type LinkOwner,
  type Loss,
  type Outgoing,
  type Refusal
} from './link.ts'
import { Mapping } from './mapping.ts'
import { outgoingOf } from './outgoing.ts'
import { Refusals } from './refusals.ts'
import type { BridgeSettings } from './settings.ts'
import { BridgeCounts, Rates } from './traffic.ts'
import { Watchdog } from './watchdog.ts'

/** Most bytes that were sent and are not confirmed; one larger message goes alone. */
const WINDOW_BYTES_MAX = 8 * 1024 * 1024
/** A link that was open for so long is no part of a run of failures. */
const STEADY_MS = 10_000
/** Pauses after what an operator must mend are longer by this. */
const CONFIG_PAUSES = 8

export interface BridgeParts {
  readonly broker: Broker
  readonly clock: Clock
  readonly settings: BridgeSettings
  /** The store's name. */
  readonly origin: string
  readonly random: () => number
  readonly makeLink: (settings: BridgeSettings, owner: LinkOwner) => Link
  readonly onState: (bridge: Bridge) => void
}

/** A message that waits for its own record. */
interface Held {
  readonly outgoing: Outgoing
  readonly ticket: number
}

export class Bridge implements Consumer, LinkOwner, TurnTask {
  readonly noAck = false
  readonly settings: BridgeSettings
  readonly counts: BridgeCounts
  readonly rates: Rates
  queue: Queue | null
  state: BridgeState
  stateSinceMs: number
  lastError: string
  readonly #parts: BridgeParts
  readonly #broker: Broker
  readonly #mapping: Mapping
  readonly #backoff: Backoff
  readonly #refusalPauses: Backoff
  readonly #refusals: Refusals
  #watchdog: Watchdog
  #link: Link | null
  #abort: AbortController | null
  #isOpen: boolean
  #openedMs: number
  #retryAtMs: number
  /** Payload bytes by sequence, in the order in which they were sent. */
  readonly #unconfirmed: Map<number, number>
  #unconfirmedBytes: number
  readonly #held: Fifo<Held>
  /** What lies before this sequence is durable. */
  #durableBelow: number
  /** What lies before this one is with this ticket. */
  #markBelow: number
  #markTicket: number
  #isAwaitingDisk: boolean
  /** One at a time up to this sequence: some message before it made the far side close the link. 0: as usual. */
  #carefulUntil: number
  #isClosed: boolean

  constructor(parts: BridgeParts) {
    const { settings, broker, clock } = parts
    this.settings = settings
    this.#parts = parts
    this.#broker = broker
    this.counts = new BridgeCounts()
    this.rates = new Rates()
    this.queue = null
    this.state = 'connecting'
    this.stateSinceMs = clock.monotonicMs()
    this.lastError = ''
    this.#mapping = new Mapping(settings.map)
    this.#backoff = new Backoff(settings.retryMinMs, settings.retryMaxMs, parts.random)
    this.#refusalPauses = new Backoff(settings.retryMinMs, settings.retryMaxMs, parts.random)
    this.#refusals = new Refusals(settings.refusalsMax)
    this.#watchdog = new Watchdog(settings.stallMs, this.stateSinceMs)
    this.#link = null
    this.#abort = null
    this.#isOpen = false
    this.#openedMs = 0
    this.#retryAtMs = this.stateSinceMs
    this.#unconfirmed = new Map()
    this.#unconfirmedBytes = 0
    this.#held = new Fifo()
    this.#durableBelow = 0
    this.#markBelow = 0
    this.#markTicket = 0
    this.#isAwaitingDisk = false
    this.#carefulUntil = 0
    this.#isClosed = false
  }

  /** Sent and not confirmed, held for the disk, or refused and to be sent again. */
  get openCount(): number {
    return this.#unconfirmed.size + this.#held.size + this.#refusals.openCount
  }

  get openBytes(): number {
    return this.#unconfirmedBytes
  }

  /** What its link waits for; '' is nothing. */
  get holdup(): string {
    return this.#link?.holdup ?? ''
  }

  // Orders

  pause(): void {
    this.#become('paused', '')
  }

  resume(): void {
    if (this.state === 'paused') this.restart()
  }

  /** Everything anew, at once. */
  restart(): void {
    this.#drop(false)
    this.#backoff.reset()
    this.#become('connecting', '')
    this.#retryAtMs = this.#parts.clock.monotonicMs()
  }

  /** Nothing is taken any more; what was sent may still be confirmed. */
  stop(): void {
    this.#isClosed = true
  }

  /** What is not confirmed goes back. Idempotent. */
  close(): void {
    this.#isClosed = true
    this.#drop(this.#unconfirmed.size === 0)
    if (this.queue !== null) cancel(this.#broker, this.queue, this)
    this.queue = null
  }

  // Time

  tick(): void {
    const now = this.#parts.clock.monotonicMs()
    if (this.queue !== null) this.rates.sample(this.queue, this.counts.confirmed, now)
    if (this.#isClosed) return
    this.#noteDurable()
    if (this.state === 'paused') {
      const isOver =
        this.#unconfirmed.size === 0 || now - this.stateSinceMs >= this.settings.stallMs
      if (this.#link !== null && isOver) this.#drop(this.#unconfirmed.size === 0)
      return
    }
    if (this.#link === null) {
      if (now >= this.#retryAtMs) this.#connect(now)
      return
    }
    this.#judgeRefused(now)
    const { counts } = this
    const progress = counts.confirmed + counts.refused + this.#link.sentBytes
    if (this.#watchdog.isStalled(this.#isWaiting(), progress, now)) this.#stall()
  }

  /** Something is to happen at the far side before anything else can. */
  #isWaiting(): boolean {
    if (!this.#isOpen || this.#unconfirmed.size > 0) return true
    if (this.#refusals.openCount > 0 || this.#held.size > 0) return false
    return !this.#link!.isWritable && this.queue !== null && readyOf(this.queue) > 0
  }

  #stall(): void {
    const { holdup } = this.#link!
    const what = this.#isOpen ? 'nothing was confirmed' : 'the link did not open'
    const where = holdup === '' ? '' : ` (${holdup})`
    const reason = `${what} for ${this.settings.stallMs / 1_000} s${where}`
    this.#drop(false)
    this.#retryAtMs = this.#parts.clock.monotonicMs() + this.#backoff.next()
    this.#become('stalled', reason)
  }

  // The link's life

  #connect(now: number): void {
    if (this.queue === null || this.queue.isDeleted) {
      try {
        this.#openQueue()
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error
        this.#fail(error.message, true)
        return
      }
    }
    if (this.state !== 'stalled') this.#become('connecting', this.lastError)
    const link = this.#parts.makeLink(this.settings, this)
    const abort = new AbortController()
    this.#link = link
    this.#abort = abort
    this.#watchdog = new Watchdog(this.settings.stallMs, now)
    link.open(abort.signal).then(
      () => {
        if (this.#link === link) this.#onOpened()
      },
      (error: unknown) => {
        if (this.#link === link) this.#onOpenFailed(error)
      }
    )
  }

  #openQueue(): void {
    const broker = this.#broker
    const queue = openQueue(broker, this.settings)
    const isOwn = this.settings.queue === ''
    consume(broker, queue, this, { exclusive: isOwn, priority: 0 })
    this.queue = queue
    this.#durableBelow = 0
    this.#markBelow = 0
    this.#markTicket = 0
    this.#noteDurable()
  }

  #onOpened(): void {
    this.#isOpen = true
    this.#openedMs = this.#parts.clock.monotonicMs()
    // Stalled is over with the first confirmation only: a far side that lets everybody in may still do nothing.
    if (this.state === 'connecting' || this.#isIdle) this.#become('running', '')
    this.#wake()
  }

  get #isIdle(): boolean {
    return this.queue === null || this.queue.count === 0
  }

  #onOpenFailed(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error)
    this.#drop(false)
    this.#fail(reason, error instanceof LinkError && error.isConfig)
  }

  onLost(loss: Loss): void {
    const now = this.#parts.clock.monotonicMs()
    if (loss.blamesMessage) this.#blame(loss.reason)
    if (now - this.#openedMs >= STEADY_MS) this.#backoff.reset()
    this.#drop(false)
    this.#fail(loss.reason, loss.isConfig)
  }

  /** With one message on its way it is known which one it was; with more they go one by one from now on. */
  #blame(reason: string): void {
    const [first] = this.#unconfirmed.keys()
    if (first === undefined) return
    if (this.#unconfirmed.size > 1) {
      this.#carefulUntil = Math.max(...this.#unconfirmed.keys())
      return
    }
    this.counts.refused++
    this.#refusals.count(first, { kind: 'refused', reason }, this.counts.confirmed)
  }

  #fail(reason: string, isConfig: boolean): void {
    const pause = this.#backoff.next() * (isConfig ? CONFIG_PAUSES : 1)
    this.#retryAtMs = this.#parts.clock.monotonicMs() + pause
    if (this.state === 'paused') return
    if (this.state === 'stalled' && !isConfig) this.lastError = reason
    else this.#become(isConfig ? 'failed-config' : 'backing-off', reason)
  }

  #become(state: BridgeState, reason: string): void {
    if (reason !== '') this.lastError = reason
    if (state === this.state) return
    this.state = state
    this.stateSinceMs = this.#parts.clock.monotonicMs()
    this.#parts.onState(this)
  }

  /** The link is over: what is not confirmed goes back to its place. */
  #drop(isOrderly: boolean): void {
    const link = this.#link
    this.#link = null
    this.#isOpen = false
    this.#abort?.abort()
    this.#abort = null
    link?.close(isOrderly)
    const { queue } = this
    if (queue !== null && !queue.isDeleted) {
      this.counts.retried += this.#unconfirmed.size
      for (const sequence of this.#unconfirmed.keys()) putBack(this.#broker, queue, sequence, false)
      for (const sequence of this.#refusals.takeOpen())
        putBack(this.#broker, queue, sequence, false)
      while (this.#held.size > 0)
        putBack(this.#broker, queue, this.#held.shift()!.outgoing.sequence, false)
    }
    this.#held.clear()
    this.#unconfirmed.clear()
    this.#unconfirmedBytes = 0
  }

  // The consumer

  hasCredit(): boolean {
    if (!this.#isOpen || this.#isClosed || this.state === 'paused' || this.#refusals.openCount > 0)
      return false
    const windowMax = this.#carefulUntil > 0 ? 1 : this.settings.window
    if (this.#unconfirmed.size + this.#held.size >= windowMax) return false
    return this.#unconfirmedBytes < WINDOW_BYTES_MAX && this.#link!.isWritable
  }

  deliver(message: Message, queue: Queue, sequence: number): void {
    const refusal = this.#refusals.poison(sequence)
    if (refusal !== null) {
      this.#bury(message, queue, sequence, refusal)
      return
    }
    const id = { origin: this.#parts.origin, epoch: queue.id, sequence }
    const outgoing = outgoingOf(this.#broker, this.#mapping, message, id)
    if (this.#held.size === 0 && this.#isDurable(queue, sequence)) this.#send(outgoing)
    else this.#hold(outgoing)
  }

  #isDurable(queue: Queue, sequence: number): boolean {
    if (!queue.isDurable || sequence < this.#durableBelow) return true
    const { ticket, durableTicket } = this.#broker.journal
    return ticket <= durableTicket
  }

  /** Looks how far the disk has come: what was in the queue when a record was written is durable with that record. */
  #noteDurable(): void {
    const { queue } = this
    // With levels of priority a sequence says nothing about time.
    if (queue === null || queue.levels !== null) return
    const { ticket, durableTicket } = this.#broker.journal
    if (ticket <= durableTicket) this.#durableBelow = queue.nextSequence
    else if (durableTicket >= this.#markTicket) this.#durableBelow = this.#markBelow
    else return
    this.#markTicket = ticket
    this.#markBelow = queue.nextSequence
  }

  #hold(outgoing: Outgoing): void {
    const { journal, untilDurable } = this.#broker
    this.#held.push({ outgoing, ticket: journal.ticket })
    if (this.#isAwaitingDisk) return
    this.#isAwaitingDisk = true
    untilDurable.add(this)
  }

  /** The disk has more. */
  onTurnEnd(): void {
    this.#isAwaitingDisk = false
    const { journal, untilDurable } = this.#broker
    if (journal.failed || !this.#isOpen) return
    this.#noteDurable()
    const { durableTicket } = journal
    while (this.#held.size > 0 && this.#held.peek()!.ticket <= durableTicket) {
      this.#send(this.#held.shift()!.outgoing)
    }
    if (this.#held.size > 0) {
      this.#isAwaitingDisk = true
      untilDurable.add(this)
    }
    this.#wake()
  }

  #send(outgoing: Outgoing): void {
    const { sequence, payload } = outgoing
    const refusal = this.#link!.send(outgoing)
    if (refusal !== null) {
      this.#refuse(sequence, refusal)
      return
    }
    this.counts.sent++
    this.#unconfirmed.set(sequence, payload.length)
    this.#unconfirmedBytes += payload.length
  }

  onCancelled(): void {
    this.queue = null
    this.#drop(false)
    this.#fail('its queue was deleted', true)
  }

  // What the link says

  onConfirmed(sequence: number): void {
    const { queue } = this
    if (!this.#take(sequence) || queue === null) return
    this.counts.confirmed++
    this.#noteDurable()
    this.#refusals.forget(sequence)
    if (sequence >= this.#carefulUntil) this.#carefulUntil = 0
    settle(this.#broker, queue, sequence)
  }

  onRefused(sequence: number, refusal: Refusal): void {
    if (this.#take(sequence)) this.#refuse(sequence, refusal)
  }

  #take(sequence: number): boolean {
    const bytes = this.#unconfirmed.get(sequence)
    if (bytes === undefined) return false
    this.#unconfirmed.delete(sequence)
    this.#unconfirmedBytes -= bytes
    return true
  }

  #refuse(sequence: number, refusal: Refusal): void {
    this.counts.refused++
    this.#refusals.count(sequence, refusal, this.counts.confirmed)
    this.#refusals.open(sequence)
    this.lastError = refusal.reason
  }

  onTold(): void {
    if (this.state === 'stalled') this.#become('running', '')
    this.#backoff.reset()
    this.#wake()
  }

  onWritable(): void {
    this.#wake()
  }

  #wake(): void {
    if (this.queue !== null && this.#isOpen) ready(this.#broker, this.queue)
  }

  /** When nothing else is on its way, what was refused goes back into its place after a pause, and out again. */
  #judgeRefused(now: number): void {
    const { queue } = this
    const refusals = this.#refusals
    if (refusals.openCount === 0) {
      if (this.#unconfirmed.size === 0) this.#refusalPauses.reset()
      return
    }
    if (queue === null || this.#unconfirmed.size + this.#held.size > 0) return
    if (refusals.dueMs < 0) {
      refusals.dueMs = now + (refusals.hasPoison ? 0 : this.#refusalPauses.next())
    }
    if (now < refusals.dueMs) return
    const open = refusals.takeOpen()
    this.counts.retried += open.length
    for (const sequence of open) putBack(this.#broker, queue, sequence)
    this.#wake()
  }

  /** Not inside the delivery: in a turn of its own. */
  #bury(message: Message, queue: Queue, sequence: number, refusal: Refusal): void {
    const id = { origin: this.#parts.origin, epoch: queue.id, sequence }
    const outgoing = outgoingOf(this.#broker, this.#mapping, message.copy(), id)
    setImmediate(() => {
      if (queue.isDeleted) return
      if (buryAtFarSide(this.#broker, this.settings, outgoing, refusal)) {
        this.counts.deadLettered++
        this.#refusals.forget(sequence)
        settle(this.#broker, queue, sequence)
      } else putBack(this.#broker, queue, sequence)
    })
  }
}
