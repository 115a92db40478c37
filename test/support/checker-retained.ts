/**
 * A retained topic is a register. Values are unique, so the interval rule decides in n log n: a read must not return a
 * value when another write began after that value's write had ended, and ended before the read began; and nobody reads
 * an older value after a newer one was seen.
 */
import type { HistoryEvent } from './history.ts'

export type RetainedRule = 'stale-retained' | 'retained-backwards' | 'phantom-retained'

interface Write {
  readonly value: string
  readonly begin: number
  /** Infinity while nobody knows whether it was done. */
  end: number
  refused: boolean
}

interface Read {
  readonly value: string
  readonly begin: number
  readonly end: number
}

class Topic {
  readonly writes = new Map<string, Write>()
  /** Of the empty value there are many: deleting is a write too. */
  readonly deletes: Write[] = []
  readonly reads: Read[] = []
  readonly openReads = new Map<string, number>()
}

/** Highest `begin` of the entries that ended before a moment, moments asked in rising order. */
class HighestBegin {
  readonly #entries: readonly { begin: number; end: number }[]
  #next = 0
  #highest = Number.NEGATIVE_INFINITY

  constructor(entries: { begin: number; end: number }[]) {
    this.#entries = entries.sort((a, b) => a.end - b.end)
  }

  before(moment: number): number {
    for (; this.#next < this.#entries.length; this.#next++) {
      const entry = this.#entries[this.#next]!
      if (entry.end >= moment) break
      if (entry.begin > this.#highest) this.#highest = entry.begin
    }
    return this.#highest
  }
}

export class RetainedChecker {
  readonly #topics = new Map<string, Topic>()
  readonly #report: (rule: RetainedRule, topic: string, id: string, detail: string) => void

  constructor(report: (rule: RetainedRule, topic: string, id: string, detail: string) => void) {
    this.#report = report
  }

  written(event: HistoryEvent): void {
    const topic = this.#topic(event)
    const value = event.id ?? ''
    const known = value === '' ? topic.deletes.at(-1) : topic.writes.get(value)
    if (event.type === 'invoke') {
      // A repeat of a write (same value, not answered yet) keeps its first begin; a delete may come again and again.
      if (known !== undefined && (value !== '' || known.end === Number.POSITIVE_INFINITY)) return
      const end = Number.POSITIVE_INFINITY
      const write: Write = { value, begin: event.t, end, refused: false }
      if (value === '') topic.deletes.push(write)
      else topic.writes.set(value, write)
    } else if (known !== undefined && event.type === 'ok') known.end = Math.min(known.end, event.t)
    else if (known !== undefined && event.type === 'fail') known.refused = true
  }

  read(event: HistoryEvent): void {
    const topic = this.#topic(event)
    if (event.type === 'invoke') topic.openReads.set(event.proc, event.t)
    else if (event.type === 'ok') {
      const begin = topic.openReads.get(event.proc) ?? event.t
      topic.reads.push({ value: event.id ?? '', begin, end: event.t })
    }
  }

  finish(): void {
    for (const [name, topic] of this.#topics) this.#check(name, topic)
  }

  #topic(event: HistoryEvent): Topic {
    const name = event.flow ?? ''
    let topic = this.#topics.get(name)
    if (topic === undefined) this.#topics.set(name, (topic = new Topic()))
    return topic
  }

  /** The writes that may explain a read; the empty value also by nothing ever having been written. */
  #sources(topic: Topic, read: Read): Write[] {
    if (read.value === '') {
      const never = Number.NEGATIVE_INFINITY
      const initial: Write = { value: '', begin: never, end: never, refused: false }
      return [initial, ...topic.deletes.filter(write => !write.refused && write.begin <= read.end)]
    }
    const write = topic.writes.get(read.value)
    return write === undefined || write.refused || write.begin > read.end ? [] : [write]
  }

  #check(name: string, topic: Topic): void {
    const all = [...topic.writes.values(), ...topic.deletes].filter(write => !write.refused)
    const acknowledged = new HighestBegin(all)
    // What a read returned was certainly written by the read's end, and not before its write began.
    const seen = new HighestBegin(
      topic.reads.flatMap(read => {
        if (read.value === '') return []
        const write = topic.writes.get(read.value)
        return write === undefined ? [] : [{ begin: write.begin, end: read.end }]
      })
    )
    for (const read of topic.reads.sort((a, b) => a.begin - b.begin)) {
      const shown = read.value === '' ? '(none)' : read.value
      const sources = this.#sources(topic, read)
      const latest = acknowledged.before(read.begin)
      const newest = seen.before(read.begin)
      if (sources.length === 0) {
        this.#report('phantom-retained', name, shown, 'a value that nobody wrote')
      } else if (!sources.some(write => write.end >= latest)) {
        this.#report('stale-retained', name, shown, 'a newer value was acknowledged before')
      } else if (!sources.some(write => write.end >= newest)) {
        this.#report('retained-backwards', name, shown, 'a newer value had been read before')
      }
    }
  }
}
