/** Who waits, by a promise, for a record to be durable: few, and none of them on the way of a message. */
import type { JournalError } from './journal-error.ts'

interface Waiter {
  readonly ticket: number
  resolve(): void
  reject(error: JournalError): void
}

export class DurableWaiters {
  readonly #waiters: Waiter[] = []

  /** Resolves when the record of this ticket is durable; rejects when it never will be. */
  wait(ticket: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({ ticket, resolve, reject })
    })
  }

  /** All is durable up to `ticket`. */
  resolve(ticket: number): void {
    let kept = 0
    for (const waiter of this.#waiters) {
      if (waiter.ticket <= ticket) waiter.resolve()
      else this.#waiters[kept++] = waiter
    }
    this.#waiters.length = kept
  }

  reject(error: JournalError): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error)
  }
}
