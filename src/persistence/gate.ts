/** Where calls that add something wait, in their order, while too much is on its way to the disk. */
interface Waiting {
  resolve(): void
  reject(error: Error): void
}

export class Gate {
  #isClosed = false
  #waiting: Waiting[] = []
  /** Let in and not yet run: nobody may overtake them. */
  #released = 0

  /** True: a call has to wait for `pass`. */
  get mustWait(): boolean {
    return this.#isClosed || this.#released > 0
  }

  async pass(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      if (!this.#isClosed) this.#let()
    })
    this.#released--
  }

  close(): void {
    this.#isClosed = true
  }

  open(): void {
    this.#isClosed = false
    this.#let()
  }

  fail(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }

  #let(): void {
    const waiting = this.#waiting.splice(0)
    this.#released += waiting.length
    for (const { resolve } of waiting) resolve()
  }
}
