/**
 * Dead letters over power cuts: wherever the power goes, a message is in the queue in which it died or in the
 * one to which it went, never in both, never in none. Some bodies are so large that their records get files of their own: then a cut falls between records.
 */
import { expect, test } from 'vitest'
import { decodeProperties, encodeProperties } from '../../src/amqp/properties.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { get } from '../../src/broker/get.ts'
import { publishTo } from '../../src/broker/publish.ts'
import { reject, requeue } from '../../src/broker/settle.ts'
import type { Broker } from '../../src/broker/broker.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { lettersOf } from '../../src/core/held.ts'
import { FORM_AMQP } from '../../src/core/message.ts'
import { Backend, messageOf, openRig, type Rig, turns } from '../support/broker-rig.ts'
import { chargedBytes, liveBytes } from '../support/lasting-state.ts'
import { table } from '../support/amqp-dead.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
const CUTS = Number(process.env['MOTEMQ_CUTS'] ?? 40)
const TTL_MS = 10_000
const BATCH = 8

function withAmqp(broker: Broker): void {
  broker.propertyDecoders[FORM_AMQP] = decodeProperties
  broker.propertyEncoders[FORM_AMQP] = encodeProperties
}

function declare(rig: Rig, name: string, args: FieldTable): void {
  const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
  const rest = { principal: null, owner: null }
  declareQueue(rig.broker, rig.vhost, { name, ...flags, ...rest, arguments: args })
}

/** Takes one message out of a queue; its body's number, or null. */
async function take(rig: Rig, queue: string, noAck: boolean): Promise<[number, number] | null> {
  const answer = await new Promise<[number, number] | null>(resolve => {
    const onGot = (message: Parameters<Parameters<typeof get>[2]['onGot']>[0], at: number) =>
      resolve(message === null ? null : [message.source.readUInt32BE(message.payloadStart), at])
    get(rig.broker, rig.queue(queue), { onGot }, noAck)
  })
  await turns(1)
  return answer
}

async function reopen(rig: Rig): Promise<Rig> {
  return await rig.crash({ onReplayed: withAmqp })
}

/** Publishes, lets messages die in two ways, and cuts the power after so many calls of the disk. */
async function round(rig: Rig, first: number, cut: number, isRetried = false): Promise<Rig> {
  const backend = new Backend(rig)
  for (let i = first; i < first + BATCH; i++) {
    const body = Buffer.alloc(4_000 + ((i * 7_919) % 100_000), i)
    body.writeUInt32BE(i, 0)
    const message = messageOf('q', body)
    message.form = FORM_AMQP
    message.qos = 1
    message.isAwaited = true
    publishTo(rig.broker, rig.vhost.exchanges.get('')!, message, backend)
  }
  await rig.flush()
  const at = rig.disk.calls + cut
  rig.disk.intercept = () => (rig.disk.calls >= at ? { powerOff: true } : null)
  for (let i = 0; i < BATCH / 2; i++) {
    const taken = await take(rig, 'q', false)
    // With delayed retry some are held back first.
    if (taken !== null && isRetried && i % 2 === 0) requeue(rig.broker, rig.queue('q'), taken[1])
    else if (taken !== null) reject(rig.broker, rig.queue('q'), taken[1])
  }
  await turns(4)
  if (cut % 3 === 0) void rig.journal.checkpoint().catch(() => undefined)
  await rig.pass(TTL_MS)
  await turns(20)
  void rig.journal.flush().catch(() => undefined)
  await turns(60)
  return await reopen(rig)
}

test(`a dead letter is in one queue over ${CUTS} cuts (seed ${SEED})`, async () => {
  let rig = await openRig({ seed: SEED, onReplayed: withAmqp })
  declare(
    rig,
    'q',
    table({
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'd',
      'x-message-ttl': TTL_MS
    })
  )
  declare(rig, 'd', [])
  await rig.flush()
  let published = 0
  let moved = 0
  for (let cut = 0; cut < CUTS; cut++) {
    rig = await round(rig, published, 1 + (cut % 9))
    published += BATCH
    const bodies: number[] = []
    moved += rig.queue('d').count
    expect(chargedBytes(rig.broker), `cut ${cut}`).toEqual(liveBytes(rig.broker, false))
    // What the cut left where it was dies again.
    await rig.pass(TTL_MS)
    for (let i = 0; i < 50 && rig.queue('q').count > 0; i++) await rig.pass(100)
    for (;;) {
      const taken = await take(rig, 'd', true)
      if (taken === null) break
      bodies.push(taken[0])
    }
    await rig.flush()
    const expected = Array.from({ length: BATCH }, (_, i) => published - BATCH + i)
    expect(
      bodies.toSorted((a, b) => a - b),
      `cut ${cut}`
    ).toEqual(expected)
    expect(rig.queue('q').count).toBe(0)
  }
  // The cuts must fall before and behind the letters' records.
  expect(moved).toBeGreaterThan(0)
  expect(moved).toBeLessThan(published)
  await rig.close()
})

/** Whatever is due happens, and what is in `d` is taken, until nothing is left. */
async function drain(rig: Rig): Promise<number[]> {
  const bodies: number[] = []
  for (let left = 100; left > 0; left--) {
    await rig.pass(1_000)
    for (
      let taken = await take(rig, 'd', true);
      taken !== null;
      taken = await take(rig, 'd', true)
    ) {
      bodies.push(taken[0])
    }
    if (rig.queue('q').count === 0) break
  }
  return bodies.toSorted((a, b) => a - b)
}

test(`what is held, or waits for its queue, is in one place over ${CUTS} cuts (seed ${SEED})`, async () => {
  let rig = await openRig({ seed: SEED + 1, onReplayed: withAmqp })
  const held = {
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': 'd',
    'x-dead-letter-strategy': 'at-least-once',
    'x-overflow': 'reject-publish',
    'x-delayed-retry-min': 3_000,
    'x-message-ttl': 2 * TTL_MS
  }
  declare(rig, 'q', table(held))
  declare(rig, 'd', table({ 'x-max-length': 1, 'x-overflow': 'reject-publish' }))
  await rig.flush()
  let published = 0
  let letters = 0
  for (let cut = 0; cut < CUTS; cut++) {
    rig = await round(rig, published, 1 + (cut % 9), true)
    published += BATCH
    letters += lettersOf(rig.queue('q'))
    expect(chargedBytes(rig.broker), `cut ${cut}`).toEqual(liveBytes(rig.broker, false))
    const bodies = await drain(rig)
    const expected = Array.from({ length: BATCH }, (_, i) => published - BATCH + i)
    expect(bodies, `cut ${cut}`).toEqual(expected)
    expect([rig.queue('q').count, rig.broker.state.heldCount]).toEqual([0, 0])
    await rig.flush()
  }
  expect(letters).toBeGreaterThan(0)
  await rig.close()
})
