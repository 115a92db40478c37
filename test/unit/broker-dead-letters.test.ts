/** Expiry and dead letters over restarts, on a full disk, of bodies that are not in memory, and out of MQTT. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeProperties, encodeProperties } from '../../src/amqp/properties.ts'
import type { Broker } from '../../src/broker/broker.ts'
import { Compaction } from '../../src/broker/compaction.ts'
import { bindQueue } from '../../src/broker/bindings.ts'
import { get } from '../../src/broker/get.ts'
import { queueClockOf } from '../../src/broker/queue-clock.ts'
import { publishTo } from '../../src/broker/publish.ts'
import { reject } from '../../src/broker/settle.ts'
import { cool } from '../../src/broker/spill.ts'
import { noteBlindKeys } from '../../src/core/blind-keys.ts'
import { FORM_AMQP, FORM_MQTT, Message } from '../../src/core/message.ts'
import type { Queue } from '../../src/core/queue.ts'
import { KIND } from '../../src/core/records/kinds.ts'
import { decodeProperties as decodeMqtt } from '../../src/mqtt/properties.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { table } from '../support/amqp-dead.ts'
import { Backend, Client, openRig, type Rig, turns } from '../support/broker-rig.ts'
import { declaredQueue } from '../support/declared-queue.ts'
import { chargedBytes, differences, lastingState, liveBytes } from '../support/lasting-state.ts'

let rig: Rig
let backend: Backend

function withFrontEnds(broker: Broker): void {
  broker.propertyDecoders[FORM_AMQP] = decodeProperties
  broker.propertyDecoders[FORM_MQTT] = decodeMqtt
  broker.propertyEncoders[FORM_AMQP] = encodeProperties
}

beforeEach(async () => {
  rig = await openRig({ onReplayed: withFrontEnds })
  backend = new Backend(rig)
})

afterEach(async () => {
  await rig.close()
})

const DEAD = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'd' }

function declare(name: string, args: Record<string, string | number> = {}, durable = true): Queue {
  return declaredQueue(rig, name, { durable, arguments: table(args) })
}

function ready(name: string): number {
  return rig.vhost.queues.get(name)?.readyCount ?? -1
}

async function again(how: 'crash' | 'restart'): Promise<void> {
  await rig.flush()
  rig = how === 'crash' ? await rig.crash() : await rig.restart()
  backend = new Backend(rig)
}

/** Sequence and message (true for the turn) of what a queue gives. */
function take(name: string, onMessage: (message: Message) => void = () => undefined): number {
  let taken = 0
  const onGot = (message: Message | null, sequence: number): void => {
    if (message !== null) onMessage(message)
    taken = sequence
  }
  get(rig.broker, rig.queue(name), { onGot }, false)
  return taken
}

describe('over a restart', () => {
  it.each(['crash', 'restart'] as const)('(%s) an expiry is still what it was', async how => {
    declare('q', { 'x-message-ttl': 1_000, ...DEAD })
    declare('d')
    backend.publish('', 'q', 'x')
    await rig.pass(600)
    await again(how)
    await rig.pass(350)
    expect([ready('q'), ready('d')]).toEqual([1, 0])
    await rig.pass(100)
    expect([ready('q'), ready('d')]).toEqual([0, 1])
  })

  it('a wall clock that was set changes no expiry; time without power counts', async () => {
    declare('q', { 'x-message-ttl': 3_600_000 })
    backend.publish('', 'q', 'x')
    await rig.flush()
    rig.clock.setWall(0)
    await rig.pass(1_000)
    expect(ready('q')).toBe(1)
    rig.clock.setWall(1_700_000_000_000 + 7_200_000)
    await rig.pass(1_000)
    expect(ready('q')).toBe(1)
    await again('crash')
    rig.clock.advance(7_200_000)
    await again('crash')
    await rig.pass(0)
    expect(ready('q')).toBe(0)
  })

  it('compaction keeps the expiry that a queue gave its message', async () => {
    const queue = declare('q', { 'x-message-ttl': 60_000 })
    declare('r')
    const rest = { arguments: [], principal: null, owner: null }
    for (const name of ['q', 'r']) {
      bindQueue(rig.broker, rig.vhost, { queue: name, exchange: 'amq.fanout', key: '', ...rest })
    }
    backend.publish('amq.fanout', '', 'x')
    await rig.flush()
    queue.find(1)
    const { segment, offset } = queue
    expect(rig.journal.view(segment, offset)).toBe(true)
    const { viewBuffer, viewStart, viewEnd } = rig.journal
    const record = Buffer.from(viewBuffer.subarray(viewStart, viewEnd))
    const compaction = new Compaction(rig.broker)
    compaction.compact(KIND.message, record, 0, record.length, segment, offset)
    queue.find(1)
    expect([queue.segment, queue.offset]).not.toEqual([segment, offset])
    await again('crash')
    await rig.pass(59_000)
    expect([ready('q'), ready('r')]).toEqual([1, 1])
    await rig.pass(2_000)
    expect([ready('q'), ready('r')]).toEqual([0, 1])
  })

  it('a dead letter and its place are what replay finds', async () => {
    declare('q', DEAD)
    declare('d')
    for (let i = 0; i < 10; i++) backend.publish('', 'q', `${i}`)
    for (let i = 0; i < 10; i++) reject(rig.broker, rig.queue('q'), take('q'))
    await turns(4)
    await rig.flush()
    const before = await lastingState(rig.broker)
    await again('crash')
    expect(rig.refused).toEqual([])
    expect(differences(before, await lastingState(rig.broker))).toEqual([])
    expect([ready('q'), ready('d')]).toEqual([0, 10])
    expect(chargedBytes(rig.broker)).toEqual(liveBytes(rig.broker, false))
  })

  it('a queue that expires has its whole time again', async () => {
    declare('q', { 'x-expires': 1_000 })
    await rig.pass(900)
    await again('crash')
    await rig.pass(900)
    expect(ready('q')).toBe(0)
    await rig.pass(200)
    expect(ready('q')).toBe(-1)
    await again('crash')
    expect(ready('q')).toBe(-1)
  })
})

describe('what cannot be done at once', () => {
  it('waits while the disk takes nothing: nothing is lost, nothing expired is delivered', async () => {
    declare('q', { 'x-message-ttl': 1_000, ...DEAD })
    declare('d')
    for (let i = 0; i < 3; i++) backend.publish('', 'q', `${i}`)
    const rejected = take('q')
    rig.broker.diskAlarm = true
    rig.broker.judge()
    reject(rig.broker, rig.queue('q'), rejected)
    await rig.pass(2_000)
    expect([rig.queue('q').count, ready('d'), take('q')]).toEqual([3, 0, 0])
    rig.broker.diskAlarm = false
    rig.broker.judge()
    await rig.pass(2_000)
    expect([rig.queue('q').count, ready('d')]).toEqual([0, 3])
  })

  it('reads entries and bodies that lie on the disk first', async () => {
    const queue = declare('q', { 'x-message-ttl': 1_000, ...DEAD })
    declare('d')
    for (let i = 0; i < 3_000; i++) {
      backend.publish('', 'q', `${i}`)
      if (i % 500 === 0) await rig.flush()
    }
    await rig.flush()
    for (const chunk of [...queue.chunks]) {
      if (queue.isCoolable(chunk)) cool(rig.broker, queue, chunk)
    }
    expect(queue.hotEntries).toBeLessThan(1_500)
    await again('crash')
    await rig.pass(1_100)
    for (let i = 0; i < 5_000 && ready('d') < 3_000; i++) await rig.pass(10)
    expect([rig.queue('q').count, ready('d')]).toEqual([0, 3_000])
    const order: string[] = []
    for (let i = 0; i < 3; i++) take('d', message => order.push(bodyOf(message)))
    expect(order).toEqual(['0', '1', '2'])
  })

  it('has one timer and no deadline in a queue without expiry', async () => {
    const queue = declare('q')
    backend.publish('', 'q', 'x')
    expect([queue.life, queueClockOf(rig.broker).size]).toEqual([null, 0])
    for (let i = 0; i < 20; i++) {
      declare(`t${i}`, { 'x-message-ttl': 1_000 })
      backend.publish('', `t${i}`, 'x')
      backend.publish('', `t${i}`, 'y')
    }
    expect(queueClockOf(rig.broker).size).toBe(20)
    await rig.pass(1_000)
    expect(queueClockOf(rig.broker).size).toBe(0)
  })

  it('leaves a queue that lasts for one that does not, settled on the disk', async () => {
    declare('q', DEAD)
    declare('d', {}, false)
    backend.publish('', 'q', 'x')
    reject(rig.broker, rig.queue('q'), take('q'))
    await turns(4)
    expect([rig.queue('q').count, ready('d')]).toEqual([0, 1])
    await again('crash')
    expect([rig.queue('q').count, ready('d')]).toEqual([0, -1])
  })
})

function bodyOf(message: Message): string {
  return message.source.toString('utf8', message.payloadStart, message.payloadEnd)
}

describe('a message that came over MQTT', () => {
  it('dies as any other: its topic is the key, its expiry and its headers are AMQP’s', async () => {
    declare('q', DEAD)
    declare('d')
    const rest = { arguments: [], principal: null, owner: null }
    bindQueue(rig.broker, rig.vhost, { queue: 'q', exchange: 'amq.topic', key: 'a.#', ...rest })
    const client = new Client(rig, 'c').open()
    client.publish('a/b.c', 'x', { qos: 1, expiresAt: rig.broker.nowMs + 1_000 })
    await rig.pass(1_000)
    let seen: unknown
    take('d', message => {
      const { source, propertiesStart, propertiesEnd } = message
      const { headers, deliveryMode } = decodeProperties(source, propertiesStart, propertiesEnd)
      const deaths = headers.find(([name]) => name === 'x-death')![1]
      seen = [bodyOf(message), message.form, deliveryMode, deaths.value]
    })
    expect(seen).toMatchObject(['x', FORM_AMQP, 2, [{ type: 'F' }]])
    const [, , , deaths] = seen as [string, number, number, { value: [string, unknown][] }[]]
    expect(Object.fromEntries(deaths[0]!.value)).toMatchObject({
      exchange: { value: 'amq.topic' },
      'routing-keys': { value: [{ type: 'S', value: 'a.b/c' }] },
      reason: { value: 'expired' }
    })
  })

  it('reaches MQTT subscribers by its own topic when the dead letter exchange is theirs', async () => {
    declare('q', { 'x-dead-letter-exchange': 'amq.topic', 'x-dead-letter-routing-key': 'dead.q' })
    const client = new Client(rig, 'c').open()
    const options = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 }
    subscribe(rig.broker, client.session!, 'dead/#', { ...options, identifier: 0 } as never)
    backend.publish('', 'q', 'x')
    reject(rig.broker, rig.queue('q'), take('q'))
    await turns(4)
    expect(client.payloads).toEqual(['x'])
    expect(client.got[0]).toMatchObject({ qos: 1, topic: 'dead.q' })
  })
})

it('go under BCC keys that came through a crash and a compaction', async () => {
  const queue = declare('q', { 'x-dead-letter-exchange': '' })
  for (const name of ['b', 'c']) declare(name)
  const keys = ['q', 'b', 'c']
  noteBlindKeys(keys, ['b', 'c'])
  const message = new Message()
  message.compose(Buffer.from('qx'), 'q', 1, 1)
  message.form = FORM_AMQP
  publishTo(rig.broker, rig.vhost.exchanges.get('')!, message, backend, null, keys)
  await rig.flush()
  queue.find(1)
  const { segment, offset } = queue
  rig.journal.view(segment, offset)
  const { viewBuffer, viewStart, viewEnd } = rig.journal
  const record = Buffer.from(viewBuffer.subarray(viewStart, viewEnd))
  new Compaction(rig.broker).compact(KIND.message, record, 0, record.length, segment, offset)
  await again('crash')
  const taken = await new Promise<number>(resolve => {
    get(rig.broker, rig.queue('q'), { onGot: (_message, sequence) => resolve(sequence) }, false)
  })
  reject(rig.broker, rig.queue('q'), taken)
  await rig.pass(0)
  expect([ready('q'), ready('b'), ready('c')]).toEqual([1, 2, 2])
})

it('leave a full queue as fast as publishers make them die, each in turns that are short', async () => {
  const queue = declare('q', { 'x-max-length': 10, ...DEAD })
  declare('d', { 'x-max-length': 10 })
  const late = { onTurn: () => undefined }
  const { turns: publishing } = rig.broker
  let published = 0
  for (let turn = 0; turn < 20; turn++) {
    publishing.end()
    for (; publishing.mayGoOn(late); published++) backend.publish('', 'q', 'x', false)
    const before = rig.broker.counters.deadLettered.maxlen
    await turns(1)
    expect(rig.broker.counters.deadLettered.maxlen - before).toBeLessThanOrEqual(2 * 768)
    expect(queue.unackedCount).toBeLessThanOrEqual(2_000)
  }
  expect(published).toBeGreaterThan(20 * 400)
  await rig.pass(0)
  await turns(4)
  expect([queue.unackedCount, ready('q'), ready('d')]).toEqual([0, 10, 10])
})

it('leave very many queues in short turns, all of them alike', async () => {
  declare('d')
  const queues = Array.from({ length: 200 }, (_, i) =>
    declare(`q${i}`, { 'x-message-ttl': 1_000, ...DEAD })
  )
  for (const { name } of queues) for (let i = 0; i < 50; i++) backend.publish('', name, 'x', false)
  rig.clock.advance(1_001)
  await turns(2)
  queueClockOf(rig.broker).run()
  const dead = (): number => rig.broker.counters.deadLettered.expired
  let most = 0
  for (let turn = 0; turn < 3_000 && dead() < 10_000; turn++) {
    const before = dead()
    await turns(1)
    most = Math.max(most, dead() - before)
    const left = queues.map(queue => queue.readyCount)
    if (dead() > 4_000 && dead() < 5_000) expect(Math.min(...left)).toBeGreaterThan(0)
  }
  expect([dead(), ready('d')]).toEqual([10_000, 10_000])
  expect(most).toBeLessThanOrEqual(2 * 768)
})
