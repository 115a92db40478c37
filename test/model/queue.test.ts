/** A queue, and the state around it that counts live bytes, against an array that is searched from its start. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Chunk } from '../../src/core/chunk.ts'
import { NOTHING } from '../../src/core/entries.ts'
import { COLD, Queue } from '../../src/core/queue.ts'
import {
  ENTRY_COUNT,
  ENTRY_COUNT_SHIFT,
  ENTRY_REDELIVERED,
  ENTRY_SHARE_SHIFT,
  ENTRY_STATE,
  READY,
  RELEASED,
  SETTLED,
  shareOf,
  UNACKED
} from '../../src/core/queue-entry.ts'
import { sessionQueueOptions } from '../../src/core/queue-options.ts'
import { readIndex, sharesOf, writeEntries } from '../../src/core/records/queue-entries.ts'
import { INDEX_ENTRY_BYTES } from '../../src/core/queue-contents.ts'
import { State } from '../../src/core/state.ts'
import { ByteWriter } from '../../src/lib/byte-writer.ts'
import { BytesReader } from '../../src/lib/bytes-reader.ts'

interface Entry {
  sequence: number
  state: number
  segment: number
  offset: number
  bytes: number
  deliveries: number
  isRedelivered: boolean
}

const SHARE = 1 << ENTRY_SHARE_SHIFT

class Pair {
  readonly live = new Map<number, number>()
  readonly state: State
  readonly queue: Queue
  readonly entries: Entry[] = []
  /** Index records, by their offset. */
  readonly indexes: Buffer[] = []
  #positions = 0

  constructor() {
    this.state = new State({
      claim: (segment, bytes) => this.live.set(segment, (this.live.get(segment) ?? 0) + bytes),
      release: (segment, bytes) => this.live.set(segment, (this.live.get(segment) ?? 0) - bytes)
    })
    this.queue = new Queue(1, 'q', '/', sessionQueueOptions(true), false)
    this.state.addQueue(this.queue)
  }

  at(sequence: number): Entry | undefined {
    return this.entries[this.#indexOf(sequence)]
  }

  /** -1 when it is not there. */
  #indexOf(sequence: number): number {
    let low = 0
    let high = this.entries.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const found = this.entries[middle]!.sequence
      if (found === sequence) return middle
      if (found < sequence) low = middle + 1
      else high = middle - 1
    }
    return -1
  }

  put(sequence: number, bytes: number, state: number): void {
    const offset = ++this.#positions
    const segment = 1 + (offset % 7)
    this.state.insertEntry(this.queue, sequence, segment, offset, bytes, state | SHARE)
    const old = this.at(sequence)
    if (old !== undefined) {
      Object.assign(old, { segment, offset })
      return
    }
    const entry = { sequence, state, segment, offset, bytes, deliveries: 0, isRedelivered: false }
    let at = this.entries.length
    while (at > 0 && this.entries[at - 1]!.sequence > sequence) at--
    this.entries.splice(at, 0, entry)
  }

  /** The next one to deliver, of both; what is cold is read on the way. */
  next(): Entry | null {
    const expected = this.entries.find(entry => entry.state === READY) ?? null
    let sequence = this.queue.next()
    for (let left = 1_000; sequence === COLD; left--) {
      expect(left).toBeGreaterThan(0)
      this.warm(this.queue.coldChunk!)
      sequence = this.queue.next()
    }
    expect(sequence).toBe(expected === null ? NOTHING : expected.sequence)
    return expected
  }

  settle(sequence: number): void {
    const at = this.#indexOf(sequence)
    expect(this.state.settleEntry(this.queue, sequence)).toBe(at >= 0)
    if (at >= 0) this.entries.splice(at, 1)
  }

  cool(chunk: Chunk): void {
    const shares = sharesOf(chunk.words!, chunk.count)
    const writer = new ByteWriter()
    writeEntries(writer, this.queue, chunk)
    this.indexes.push(Buffer.from(writer.buffer.subarray(0, writer.length)))
    const segment = 20 + (this.indexes.length % 3)
    this.state.cool(this.queue, chunk, segment, this.indexes.length - 1, shares)
  }

  warm(chunk: Chunk): void {
    const words = readIndex(new BytesReader(this.indexes[chunk.offset]!), chunk)
    expect(words).not.toBeNull()
    this.state.warm(this.queue, chunk, words!)
  }

  get coldChunks(): Chunk[] {
    return this.queue.chunks.filter(chunk => chunk.words === null)
  }

  check(): void {
    const { queue, entries } = this
    const ready = entries.filter(entry => entry.state === READY)
    expect(queue.count).toBe(entries.length)
    expect(queue.readyCount).toBe(ready.length)
    expect(queue.unackedCount).toBe(entries.length - ready.length)
    let hot = 0
    let end = 0
    for (const chunk of queue.chunks) {
      expect(chunk.start).toBeGreaterThanOrEqual(end)
      end = chunk.start + chunk.count
      expect(Math.floor(chunk.start / 1024)).toBe(Math.floor((end - 1) / 1024))
      if (chunk.words !== null) hot += chunk.count
    }
    expect(queue.hotEntries).toBe(hot)
    for (const { sequence, state } of entries) {
      if (queue.stateOf(sequence) !== state) expect(queue.stateOf(sequence)).toBe(state)
    }
    if (this.coldChunks.some(chunk => chunk.patches !== null)) return
    expect(queue.readyBytes).toBe(ready.reduce((sum, entry) => sum + entry.bytes, 0))
    this.checkLiveness()
  }

  checkLiveness(): void {
    const expected = new Map<number, number>()
    const claim = (segment: number, bytes: number) =>
      expected.set(segment, (expected.get(segment) ?? 0) + bytes)
    for (const { segment, bytes } of this.entries) claim(segment, shareOf(bytes, SHARE))
    for (const chunk of this.coldChunks) claim(chunk.segment, chunk.count * INDEX_ENTRY_BYTES)
    for (const [segment, bytes] of this.live) {
      expect([segment, bytes]).toEqual([segment, expected.get(segment) ?? 0])
    }
    for (const segment of expected.keys()) expect(this.live.has(segment)).toBe(true)
  }

  /** Everything read back, and compared field by field. */
  checkAll(): void {
    for (const chunk of this.coldChunks) this.warm(chunk)
    this.check()
    let at = 0
    for (const entry of this.entries) {
      at = this.queue.after(at)
      expect(at).toBe(entry.sequence)
      const { segment, offset, bytes, flags } = this.queue
      expect({ segment, offset, bytes, state: flags & ENTRY_STATE }).toEqual({
        segment: entry.segment,
        offset: entry.offset,
        bytes: entry.bytes,
        state: entry.state
      })
      expect((flags & ENTRY_REDELIVERED) !== 0).toBe(entry.isRedelivered)
      expect((flags & ENTRY_COUNT) >> ENTRY_COUNT_SHIFT).toBe(Math.min(entry.deliveries, 255))
    }
    expect(this.queue.after(at)).toBe(NOTHING)
  }
}

type Command = readonly [name: keyof typeof COMMANDS, a: number, b: number]

function pick<T>(items: readonly T[], number: number): T | undefined {
  return items.length === 0 ? undefined : items[number % items.length]
}

const COMMANDS = {
  push(pair: Pair, a: number, b: number): void {
    const count = 1 + (a % 8 === 0 ? 900 + (b % 1_400) : b % 40)
    for (let i = 0; i < count; i++) pair.put(pair.queue.nextSequence, (a + i) % 50, READY)
  },
  pushDelivered(pair: Pair, a: number): void {
    pair.put(pair.queue.nextSequence, a % 50, UNACKED)
  },
  pushBehindGap(pair: Pair, a: number, b: number): void {
    pair.put(pair.queue.nextSequence + (a % 40), b % 50, READY)
  },
  fillGap(pair: Pair, a: number, b: number): void {
    const { queue } = pair
    const sequence = 1 + (a % queue.nextSequence)
    if (pair.at(sequence) !== undefined || queue.coldChunkOf(sequence) !== null) return
    pair.put(sequence, b % 50, READY)
  },
  move(pair: Pair, a: number): void {
    const entry = pick(pair.entries, a)
    if (entry !== undefined) pair.put(entry.sequence, entry.bytes, READY)
  },
  take(pair: Pair, a: number): void {
    for (let left = 1 + (a % 60); left > 0; left--) {
      const entry = pair.next()
      if (entry === null) return
      expect(pair.queue.bytes).toBe(entry.bytes)
      expect(pair.queue.offset).toBe(entry.offset)
      pair.queue.take(entry.sequence)
      entry.state = UNACKED
      entry.deliveries++
    }
  },
  takeFound(pair: Pair, a: number): void {
    const ready = pick(
      pair.entries.filter(({ state }) => state === READY),
      a
    )
    if (ready === undefined || !pair.queue.find(ready.sequence)) return
    pair.queue.take(ready.sequence)
    ready.state = UNACKED
    ready.deliveries++
  },
  requeue(pair: Pair, a: number): void {
    const entry = pick(
      pair.entries.filter(({ state }) => state === UNACKED),
      a
    )
    if (entry === undefined) {
      expect(pair.queue.requeue(a)).toBe(false)
      return
    }
    expect(pair.queue.requeue(entry.sequence)).toBe(true)
    entry.state = READY
    entry.isRedelivered = true
  },
  settle(pair: Pair, a: number, b: number): void {
    for (let left = 1 + (b % 50); left > 0; left--) {
      const entry = pick(pair.entries, a)
      if (entry !== undefined) pair.settle(entry.sequence)
    }
  },
  settleUnknown(pair: Pair, a: number): void {
    const sequence = pair.queue.nextSequence + (a % 3)
    expect(pair.state.settleEntry(pair.queue, sequence)).toBe(false)
  },
  release(pair: Pair, a: number): void {
    const entry = pick(pair.entries, a)
    if (entry === undefined || !pair.queue.find(entry.sequence)) return
    expect(pair.state.markReleased(pair.queue, entry.sequence)).toBe(true)
    entry.state = RELEASED
  },
  purge(pair: Pair, a: number): void {
    if (a % 4 !== 0) return
    const open = pair.queue.openSequences()
    const ready = pair.entries.filter(({ state }) => state === READY).length
    expect(pair.state.purge(pair.queue, pair.queue.nextSequence - 1, open)).toBe(ready)
    for (const { sequence, state } of [...pair.entries]) {
      expect(open.has(sequence)).toBe(state !== READY)
      if (state === READY) {
        pair.entries.splice(
          pair.entries.findIndex(entry => entry.sequence === sequence),
          1
        )
      }
    }
  },
  cool(pair: Pair, a: number): void {
    for (let left = a % 3; left >= 0; left--) {
      const chunk = pair.queue.coolable()
      if (chunk === null) return
      expect(pair.queue.isCoolable(chunk)).toBe(true)
      pair.cool(chunk)
    }
  },
  coolAny(pair: Pair, a: number): void {
    const chunk = pick(
      pair.queue.chunks.filter(each => pair.queue.isCoolable(each)),
      a
    )
    if (chunk !== undefined) pair.cool(chunk)
  },
  warm(pair: Pair, a: number): void {
    const chunk = pick(pair.coldChunks, a)
    if (chunk !== undefined) pair.warm(chunk)
  },
  dropOldest(pair: Pair): void {
    const entry = pair.next()
    if (entry !== null) pair.settle(entry.sequence)
  },
  drain(pair: Pair, a: number): void {
    for (let left = a % 3 === 0 ? 5_000 : 0; left > 0; left--) {
      const entry = pair.next()
      if (entry === null) return
      pair.settle(entry.sequence)
    }
  },
  empty(pair: Pair, a: number): void {
    if (a % 6 !== 0) return
    pair.state.purge(pair.queue, pair.queue.nextSequence - 1, new Set())
    pair.entries.length = 0
  }
}

const names = Object.keys(COMMANDS) as (keyof typeof COMMANDS)[]
const commands = fc.array(
  fc.tuple(
    fc.constantFrom(...names, 'push', 'push', 'take', 'settle', 'coolAny'),
    fc.nat(),
    fc.nat()
  ),
  { maxLength: 60, size: 'max' }
) as fc.Arbitrary<Command[]>

function run(list: readonly Command[]): Pair {
  const pair = new Pair()
  for (const [name, a, b] of list) {
    COMMANDS[name](pair, a, b)
    pair.check()
  }
  pair.checkAll()
  return pair
}

describe('a queue', () => {
  it('holds what an array would hold, in its order, whatever goes cold meanwhile', () => {
    fc.assert(
      fc.property(commands, list => {
        run(list)
      }),
      { numRuns: 150 }
    )
  })

  it('remembers that an entry was delivered when its record moves while it is cold', () => {
    run([
      ['pushDelivered', 0, 0],
      ['requeue', 0, 0],
      ['coolAny', 0, 0],
      ['move', 0, 0]
    ])
  })

  it('keeps the order of 5,000 messages of which most are cold', () => {
    const pair = new Pair()
    for (let i = 0; i < 5_000; i++) pair.put(pair.queue.nextSequence, 10, READY)
    for (let chunk = pair.queue.coolable(); chunk !== null; chunk = pair.queue.coolable()) {
      pair.cool(chunk)
    }
    expect(pair.coldChunks.length).toBeGreaterThan(0)
    expect(pair.queue.hotEntries).toBeLessThan(4_200)
    pair.check()
    for (let i = 1; i <= 5_000; i++) {
      expect(pair.next()?.sequence).toBe(i)
      pair.settle(i)
    }
    pair.checkAll()
    expect([...pair.live.values()].every(bytes => bytes === 0)).toBe(true)
    expect(pair.queue.hotEntries).toBeLessThanOrEqual(64)
  })

  it('gives back the index of a cold chunk when the last of its entries is settled', () => {
    const pair = new Pair()
    for (let i = 0; i < 5_000; i++) pair.put(pair.queue.nextSequence, 10, READY)
    pair.cool(pair.queue.coolable()!)
    const chunk = pair.coldChunks[0]!
    for (let at = chunk.start; at < chunk.start + chunk.count; at++) pair.settle(at)
    expect(pair.coldChunks).toEqual([])
    pair.check()
  })

  it('is small again after it was long', () => {
    const pair = new Pair()
    for (let i = 0; i < 700; i++) pair.put(pair.queue.nextSequence, 10, READY)
    for (let i = 0; i < 700; i++) pair.settle(i + 1)
    const bytes = pair.queue.chunks.reduce((sum, { words }) => sum + (words?.byteLength ?? 0), 0)
    expect(bytes).toBeLessThanOrEqual(1_024)
    expect(pair.queue.stateOf(1)).toBe(SETTLED)
  })
})
