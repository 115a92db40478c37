/**
 * An idempotent publisher over power cuts: it sends again whatever was not confirmed, and each message is there
 * once, wherever the power went: its key and it are in one record. Some bodies have files of their own, so that
 * cuts fall between records; checkpoints and compaction go on.
 */
import { expect, test } from 'vitest'
import { decodeProperties, encodeProperties } from '../../src/amqp/properties.ts'
import { bindQueue } from '../../src/broker/bindings.ts'
import type { Broker } from '../../src/broker/broker.ts'
import { declareExchange } from '../../src/broker/exchanges.ts'
import { get } from '../../src/broker/get.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { FORM_AMQP } from '../../src/core/message.ts'
import { Backend, openRig, type Rig, turns } from '../support/broker-rig.ts'
import { int, keyed, ONCE } from '../support/routing.ts'

const SEED = Number(process.env['MOTEMQ_SEED'] ?? 20_261)
const CUTS = Number(process.env['MOTEMQ_CUTS'] ?? 25)
const BATCH = 12
const NOBODY = { principal: null, owner: null }
const JOURNAL = {
  segmentBytes: 256 * 1024,
  cacheBytes: 512 * 1024,
  checkpointBytes: 128 * 1024,
  deadBytesMax: 1
}

function withAmqp(broker: Broker): void {
  broker.propertyDecoders[FORM_AMQP] = decodeProperties
  broker.propertyEncoders[FORM_AMQP] = encodeProperties
}

/** An exchange that lets no key pass twice, two queues behind it; a queue that takes none twice. */
function declare(rig: Rig): void {
  const flags = { passive: false, durable: true, autoDelete: false }
  const size = ONCE.map(field =>
    field[0] === 'x-cache-size' ? (['x-cache-size', int(1_000)] as const) : field
  )
  const exchange = { name: 'once', kind: 'x-message-deduplication', internal: false, ...flags }
  declareExchange(rig.broker, rig.vhost, { ...exchange, arguments: size, principal: null })
  for (const name of ['a', 'b', 'u']) {
    const table =
      name === 'u' ? [['x-message-deduplication', { type: 't', value: true }] as const] : []
    declareQueue(rig.broker, rig.vhost, {
      name,
      exclusive: false,
      ...flags,
      arguments: table,
      ...NOBODY
    })
  }
  for (const queue of ['a', 'b']) {
    bindQueue(rig.broker, rig.vhost, { queue, exchange: 'once', key: '', arguments: [], ...NOBODY })
  }
}

/** Takes all that is in a queue; the numbers that its messages begin with. */
async function takeAll(rig: Rig, name: string): Promise<number[]> {
  const found: number[] = []
  for (;;) {
    const number = await new Promise<number>(resolve => {
      const onGot = (message: Parameters<Parameters<typeof get>[2]['onGot']>[0]) => {
        const { source, payloadStart, payloadEnd } = message ?? rig.broker.stored
        resolve(
          message === null
            ? -1
            : Number.parseInt(
                source.toString('latin1', payloadStart, Math.min(payloadEnd, payloadStart + 8)),
                10
              )
        )
      }
      get(rig.broker, rig.queue(name), { onGot }, true)
    })
    if (number < 0) return found
    found.push(number)
  }
}

/** Sends all that is not confirmed, some of it twice, and cuts the power after so many calls of the disk. */
async function round(rig: Rig, open: Set<number>, cut: number): Promise<Rig> {
  const backend = new Backend(rig)
  const at = rig.disk.calls + cut
  rig.disk.intercept = () => (rig.disk.calls >= at ? { powerOff: true } : null)
  const owed: [number, number][] = []
  const send = (i: number): void => {
    const body = `${i} `.padEnd(100 + ((i * 7_919) % 90_000), '.')
    const first = backend.publish('once', '', body, true, keyed(`${i}`))
    const second = backend.publish('', 'u', body, true, keyed(`${i}`))
    if (first >= 0 && second >= 0) owed.push([i, Math.max(first, second)])
  }
  for (const i of open) {
    send(i)
    if (i % 3 === 0) send(i)
    await turns(i % 2)
  }
  if (cut % 3 === 0) void rig.journal.checkpoint().catch(() => undefined)
  void rig.journal.flush().catch(() => undefined)
  await turns(80)
  for (const [i, ticket] of owed) if (ticket <= rig.journal.durableTicket) open.delete(i)
  return await rig.crash({ onReplayed: withAmqp })
}

test(`what is sent again after a cut is there once, over ${CUTS} cuts (seed ${SEED})`, async () => {
  let rig = await openRig({ seed: SEED, journalLimits: JOURNAL, onReplayed: withAmqp })
  declare(rig)
  await rig.flush()
  const open = new Set<number>()
  let count = 0
  let resent = 0
  for (let cut = 1; cut <= CUTS; cut++) {
    resent += open.size
    while (open.size < BATCH) open.add(++count)
    rig = await round(rig, open, 1 + ((cut * 7) % 60))
    rig.disk.intercept = () => null
  }
  // At last all of it is confirmed.
  await round(rig, open, 1_000_000).then(last => {
    rig = last
  })
  expect(open.size).toBe(0)
  expect(resent).toBeGreaterThan(CUTS)
  expect(rig.recovery.skippedRecords).toBe(0)
  const all = Array.from({ length: count }, (_, i) => i + 1)
  // Long after: none is taken again.
  rig = await round(rig, new Set(all), 1_000_000)
  for (const name of ['a', 'b', 'u']) {
    const found = await takeAll(rig, name)
    expect(found.sort((a, b) => a - b)).toEqual(all)
  }
  rig.stop()
  rig.disk.isOff = true
})
