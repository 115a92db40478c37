/**
 * Streams over power cuts: wherever the power goes, every message that was confirmed is there, at the offset at which
 * it was ever seen, without a gap; and a message is in the stream when, and only when, it is in the queue to which
 * the same record took it.
 */
import { expect, test } from 'vitest'
import { bindQueue } from '../../src/broker/bindings.ts'
import { consume } from '../../src/broker/consumers.ts'
import { get } from '../../src/broker/get.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import type { Stream } from '../../src/broker/stream.ts'
import { StreamCursor, type StreamStart } from '../../src/broker/stream-reader.ts'
import { Backend, openRig, type Rig, turns, Worker } from '../support/broker-rig.ts'
import { chargedBytes, liveBytes } from '../support/lasting-state.ts'
import { seededRandom } from '../support/random.ts'
import { table } from '../support/amqp-dead.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_301)
const CUTS = Number(process.env['MOTEMQ_CUTS'] ?? 40)
const SEGMENT_BYTES = 8_192
const KEPT_BYTES = 100_000

class Reader extends Worker {
  readonly cursor: StreamCursor

  constructor(start: StreamStart) {
    super()
    this.cursor = new StreamCursor(start)
  }
}

function declare(rig: Rig, name: string, args: Record<string, string | number>): void {
  const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
  const rest = { principal: null, owner: null }
  declareQueue(rig.broker, rig.vhost, { name, ...flags, ...rest, arguments: table(args) })
  bindQueue(rig.broker, rig.vhost, {
    queue: name,
    exchange: 'amq.fanout',
    key: '',
    arguments: [],
    ...rest
  })
}

function read(rig: Rig, name: string, start: StreamStart): Reader {
  const reader = new Reader(start)
  const queue = rig.queue(name)
  consume(rig.broker, queue, reader, { exclusive: false, priority: 0 })
  ;(queue.stream as Stream).begin(reader)
  return reader
}

/** All that is in a stream, in its order: sequence and payload. */
async function all(rig: Rig, name: string): Promise<Map<number, string>> {
  const reader = read(rig, name, { from: 'first' })
  const newest = rig.queue(name).nextSequence - 1
  for (let i = 0; i < 5_000 && reader.cursor.next <= newest; i++) await turns(1)
  const found = new Map(reader.got.map(({ sequence, payload }) => [sequence, payload]))
  expect(found.size).toBe(reader.got.length)
  return found
}

/** The bodies in a queue, which stay there. */
async function inQueue(rig: Rig): Promise<Set<string>> {
  const bodies = new Set<string>()
  for (;;) {
    const body = await new Promise<string | null>(resolve => {
      const onGot: Parameters<typeof get>[2]['onGot'] = message =>
        resolve(message?.source.toString('utf8', message.payloadStart, message.payloadEnd) ?? null)
      get(rig.broker, rig.queue('q'), { onGot }, false)
    })
    if (body === null) return bodies
    bodies.add(body)
  }
}

test(`a stream keeps what was confirmed, where it was, over ${CUTS} cuts (seed ${SEED})`, async () => {
  const random = seededRandom(SEED)
  let rig = await openRig({ seed: SEED })
  declare(rig, 's', { 'x-queue-type': 'stream', 'x-stream-max-segment-size-bytes': SEGMENT_BYTES })
  declare(rig, 'r', {
    'x-queue-type': 'stream',
    'x-stream-max-segment-size-bytes': SEGMENT_BYTES,
    'x-max-length-bytes': KEPT_BYTES
  })
  declare(rig, 'q', {})
  await rig.flush()
  const seen = new Map<number, string>()
  const confirmed = new Set<string>()
  let number = 0
  let removed = 0
  for (let cut = 0; cut < CUTS; cut++) {
    const { broker, journal, disk } = rig
    const at = disk.calls + 1 + Math.floor(random() * 40)
    const readers = [read(rig, 's', { from: 'first' }), read(rig, 's', { from: 'next' })]
    disk.intercept = () => (disk.calls >= at ? { powerOff: true } : null)
    const tickets: [number, string][] = []
    const backend = new Backend(rig)
    for (let i = 0; i < 12; i++) {
      for (let j = Math.floor(random() * 6); j >= 0; j--) {
        const body = `${++number}:${'x'.repeat(Math.floor(random() * 3_000))}`
        tickets.push([backend.publish('amq.fanout', '', body, random() < 0.8), body])
      }
      await turns(Math.floor(random() * 4))
      if (random() < 0.5) void broker.streams!.flush().catch(() => undefined)
      if (random() < 0.1) void journal.checkpoint().catch(() => undefined)
    }
    void journal.flush().catch(() => undefined)
    await turns(40)
    for (const [ticket, body] of tickets) {
      if (ticket > 0 && ticket <= journal.durableTicket) confirmed.add(body)
    }
    for (const { sequence, payload } of readers.flatMap(reader => reader.got)) {
      const known = seen.get(sequence) ?? payload
      expect(known === payload, `cut ${cut}, offset ${sequence - 1}`).toBe(true)
      seen.set(sequence, payload)
    }
    rig = await rig.crash()
    expect(chargedBytes(rig.broker), `cut ${cut}`).toEqual(liveBytes(rig.broker, false))
    const stream = await all(rig, 's')
    expect([...stream.keys()], `cut ${cut}`).toEqual(
      Array.from({ length: rig.queue('s').nextSequence - 1 }, (_, i) => i + 1)
    )
    for (const [sequence, payload] of seen) {
      expect(stream.get(sequence) === payload, `cut ${cut}, offset ${sequence - 1}`).toBe(true)
    }
    const bodies = new Set(stream.values())
    for (const body of confirmed) expect(bodies.has(body), `cut ${cut}: ${body}`).toBe(true)
    const kept = [...(await all(rig, 'r'))]
    const newest = rig.queue('r').nextSequence - 1
    expect(newest).toBe(stream.size)
    expect(
      kept.map(([sequence]) => sequence),
      `cut ${cut}`
    ).toEqual(kept.map((_, i) => newest - kept.length + 1 + i))
    for (const [sequence, body] of kept) expect(body === stream.get(sequence)).toBe(true)
    if (kept.length < stream.size) {
      removed++
      const bytes = kept.reduce((sum, [, body]) => sum + body.length, 0)
      expect(bytes).toBeGreaterThan(KEPT_BYTES / 2)
    }
    if (cut % 8 === 7) {
      expect(await inQueue(rig)).toEqual(bodies)
      rig = await rig.restart()
    }
  }
  expect(removed).toBeGreaterThan(0)
  expect(confirmed.size).toBeGreaterThan(CUTS)
  expect(confirmed.size).toBeLessThan(number)
  await rig.close()
}, 60_000)
