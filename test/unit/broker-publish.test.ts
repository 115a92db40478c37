import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { replayRetained } from '../../src/broker/retained-replay.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { inboundTicket, received, release, settle } from '../../src/broker/settle.ts'
import { permissionsChanged } from '../../src/broker/users.ts'
import { ERROR_CODES } from '../../src/core/errors.ts'
import { Principal } from '../../src/core/principal.ts'
import { ANYBODY, Client, openRig, type Rig, turns } from '../support/broker-rig.ts'

const OPTIONS = {
  qos: 0,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 0,
  identifier: 0
}

let rig: Rig

beforeEach(async () => {
  rig = await openRig()
})

afterEach(async () => {
  await rig.close()
})

function join(client: Client, filter: string, options: Partial<typeof OPTIONS> = {}): number {
  return subscribe(rig.broker, client.session!, filter, { ...OPTIONS, ...options })
}

describe('a message', () => {
  it('comes once to a session whose filters overlap: highest QoS, all identifiers', () => {
    const client = new Client(rig, 'c').open()
    join(client, 'a/#', { qos: 0, identifier: 1 })
    join(client, 'a/+', { qos: 2, identifier: 2 })
    join(client, 'a/b', { qos: 1, identifier: 3, retainAsPublished: true })
    new Client(rig, 'p').open().publish('a/b', 'x', { qos: 2, retain: true })
    expect(client.got).toEqual([expect.objectContaining({ payload: 'x', qos: 2, retain: true })])
    expect([...client.got[0]!.ids!].sort()).toEqual([1, 2, 3])
  })

  it('carries RETAIN only to who asked for it as published', () => {
    const plain = new Client(rig, 'plain').open()
    const asPublished = new Client(rig, 'as').open()
    join(plain, 'a')
    join(asPublished, 'a', { retainAsPublished: true })
    new Client(rig, 'p').open().publish('a', 'x', { retain: true })
    expect(plain.got.map(({ retain }) => retain)).toEqual([false])
    expect(asPublished.got.map(({ retain }) => retain)).toEqual([true])
  })

  it('does not come back to its publisher by a match without local, but by the others', () => {
    const client = new Client(rig, 'c').open()
    join(client, 'a', { qos: 1, noLocal: true, identifier: 1 })
    client.publish('a', 'own', { qos: 1 })
    client.publish('a', 'own too')
    expect(client.got).toEqual([])
    new Client(rig, 'p').open().publish('a', 'other', { qos: 1 })
    expect(client.payloads).toEqual(['other'])
    join(client, '#', { qos: 0, identifier: 2 })
    client.publish('a', 'both', { qos: 1 })
    expect(client.got[1]).toEqual(expect.objectContaining({ payload: 'both', qos: 0, ids: [2] }))
  })

  it('of QoS 0 for somebody who is not there is counted', () => {
    const client = new Client(rig, 'c').open({ expiry: 60 })
    join(client, 'a', { qos: 1 })
    client.close()
    new Client(rig, 'p').open().publish('a', 'x')
    expect(rig.dropped('offline_qos0')).toBe(1)
    expect(rig.session('c').queue.count).toBe(0)
  })

  it('waits in a session until its bound, then the oldest goes, counted', async () => {
    await rig.close()
    rig = await openRig({ limits: { sessionMessagesMax: 3 } })
    const client = new Client(rig, 'c').open({ expiry: 60 })
    join(client, 'a', { qos: 1 })
    client.close()
    const publisher = new Client(rig, 'p').open()
    for (const text of ['1', '2', '3', '4', '5']) {
      expect(publisher.publish('a', text, { qos: 1 })).toBeGreaterThan(0)
    }
    expect(rig.dropped('queue_full')).toBe(2)
    const again = new Client(rig, 'c').open({ expiry: 60 })
    expect(again.payloads).toEqual(['3', '4', '5'])
  })

  it('that has expired is dropped, counted', async () => {
    const client = new Client(rig, 'c').open({ expiry: 600 })
    join(client, 'a', { qos: 1 })
    client.close()
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a', 'short', { qos: 1, expiresAt: rig.broker.nowMs + 1_000 })
    publisher.publish('a', 'long', { qos: 1, expiresAt: rig.broker.nowMs + 60_000 })
    await rig.pass(2_000)
    expect(new Client(rig, 'c').open({ expiry: 600 }).payloads).toEqual(['long'])
    expect(rig.dropped('expired')).toBe(1)
  })
})

describe('QoS 2', () => {
  it('from a client is taken once however often it comes, until PUBREL', async () => {
    const client = new Client(rig, 'c').open()
    join(client, 'a', { qos: 0 })
    const publisher = new Client(rig, 'p').open({ expiry: 60 })
    const ticket = publisher.publish('a', 'x', { qos: 2, packetId: 7 })
    expect(publisher.publish('a', 'x', { qos: 2, packetId: 7 })).toBe(ticket)
    expect(inboundTicket(publisher.session!, 7)).toBe(ticket)
    expect(client.payloads).toEqual(['x'])
    rig = await rig.crash()
    // Not durable yet: its acknowledgement had not left either.
    const second = new Client(rig, 'p').open({ expiry: 60 })
    second.publish('a', 'y', { qos: 2, packetId: 8 })
    await rig.flush()
    rig = await rig.crash()
    const third = new Client(rig, 'p').open({ expiry: 60 })
    expect(inboundTicket(third.session!, 8)).toBe(0)
    expect(release(rig.broker, third.session!, 8)).toBeGreaterThan(0)
    expect(release(rig.broker, third.session!, 8)).toBe(-1)
    expect(inboundTicket(third.session!, 8)).toBe(-1)
  })

  it('to a lasting session leaves only when its record is durable', async () => {
    const client = new Client(rig, 'c').open({ expiry: 60 })
    join(client, 'a', { qos: 2 })
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a', 'two', { qos: 2 })
    publisher.publish('a', 'one', { qos: 1 })
    expect(client.got).toEqual([])
    await rig.flush()
    expect(client.payloads).toEqual(['two', 'one'])
  })

  it('after PUBREC is released again on resume, never sent again', async () => {
    const client = new Client(rig, 'c').open({ expiry: 60 })
    join(client, 'a', { qos: 2 })
    const publisher = new Client(rig, 'p').open()
    for (const text of ['1', '2', '3']) publisher.publish('a', text, { qos: 2, packetId: 0 })
    await rig.flush()
    const [first] = client.got
    const ticket = received(rig.broker, client.session!, first!.sequence)
    expect(ticket).toBeGreaterThan(0)
    expect(received(rig.broker, client.session!, first!.sequence)).toBe(0)
    await rig.flush()
    rig = await rig.crash()
    const again = new Client(rig, 'c').open({ expiry: 60 })
    expect(again.resent).toEqual([first!.sequence])
    expect(again.got).toEqual([])
    await turns(5)
    expect(again.got.map(({ payload, isRedelivered }) => [payload, isRedelivered])).toEqual([
      ['2', true],
      ['3', true]
    ])
    expect(settle(rig.broker, again.session!.queue, first!.sequence)).toBe(true)
    expect(settle(rig.broker, again.session!.queue, first!.sequence)).toBe(false)
  })
})

describe('what is retained', () => {
  it('is sent to a new subscription with RETAIN, and cleared by an empty payload', () => {
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a/1', 'one', { retain: true, qos: 1 })
    publisher.publish('a/2', 'two', { retain: true })
    publisher.publish('a/1', '', { retain: true })
    const client = new Client(rig, 'c').open()
    join(client, 'a/+', { qos: 1 })
    replayRetained(rig.broker, client.session!, 'a/+')
    expect(client.got).toEqual([
      expect.objectContaining({ topic: 'a/2', payload: 'two', retain: true, qos: 0 })
    ])
    expect(rig.vhost.retained.count).toBe(1)
  })

  it('leaves out a topic whose live message came since the subscription', () => {
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a/1', 'old', { retain: true })
    publisher.publish('a/2', 'old', { retain: true })
    const client = new Client(rig, 'c').open()
    join(client, 'a/+')
    // SUBACK waits for the disk; the subscription is there already.
    publisher.publish('a/1', 'new', { retain: true })
    replayRetained(rig.broker, client.session!, 'a/+')
    expect(client.got.map(({ topic, payload, retain }) => [topic, payload, retain])).toEqual([
      ['a/1', 'new', false],
      ['a/2', 'old', true]
    ])
  })

  it('is not shown to new subscribers before it is durable: a crash would bring the older back', async () => {
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a', 'one', { retain: true, qos: 1 })
    await rig.flush()
    publisher.publish('a', 'two', { retain: true, qos: 1 })
    const client = new Client(rig, 'c').open()
    join(client, 'a', { qos: 1 })
    replayRetained(rig.broker, client.session!, 'a')
    expect(client.got).toEqual([])
    await rig.flush()
    expect(client.payloads).toEqual(['two'])
  })

  it('is never shown when the disk fails before it is durable, and what is durable is', async () => {
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a/1', 'zero', { retain: true, qos: 1 })
    publisher.publish('a/2', 'two', { retain: true, qos: 1 })
    await rig.flush()
    publisher.publish('a/1', 'one', { retain: true, qos: 1 })
    const early = new Client(rig, 'e').open()
    join(early, 'a/+', { qos: 0 })
    replayRetained(rig.broker, early.session!, 'a/+')
    rig.disk.intercept = call => (call === 'write' || call === 'sync' ? { code: 'EIO' } : null)
    await turns(20)
    expect(rig.journal.failed).toBe(true)
    const late = new Client(rig, 'l').open()
    join(late, 'a/+', { qos: 0 })
    replayRetained(rig.broker, late.session!, 'a/+')
    await turns(20)
    expect([early.payloads, late.payloads]).toEqual([['two'], ['two']])
  })

  it('comes once more, not a hundred times, when a subscription is renewed meanwhile', async () => {
    const publisher = new Client(rig, 'p').open()
    for (let i = 0; i < 200; i++) publisher.publish(`a/${i}`, 'x', { retain: true, qos: 1 })
    await rig.flush()
    const client = new Client(rig, 'c').open()
    for (let i = 0; i < 100; i++) {
      join(client, 'a/+')
      replayRetained(rig.broker, client.session!, 'a/+')
    }
    await turns(40)
    expect(client.got).toHaveLength(400)
    join(client, 'a/7')
    replayRetained(rig.broker, client.session!, 'a/7')
    expect(client.got).toHaveLength(401)
  })

  it('comes in pieces, and no faster than the client takes it', async () => {
    const publisher = new Client(rig, 'p').open()
    for (let i = 0; i < 200; i++) publisher.publish(`a/${i}`, 'x', { retain: true, qos: 1 })
    await rig.flush()
    const client = new Client(rig, 'c').open()
    client.inflightMax = 10
    join(client, 'a/+', { qos: 1 })
    replayRetained(rig.broker, client.session!, 'a/+')
    expect(client.got).toHaveLength(10)
    await turns(5)
    expect(client.got).toHaveLength(10)
    const eager = new Client(rig, 'e').open()
    join(eager, 'a/+', { qos: 1 })
    replayRetained(rig.broker, eager.session!, 'a/+')
    expect(eager.got).toHaveLength(64)
    await turns(20)
    expect(new Set(eager.got.map(({ topic }) => topic)).size).toBe(200)
  })

  it('is bounded: what is too much is refused, a value for a known topic is not', async () => {
    await rig.close()
    rig = await openRig({ limits: { retainedMax: 2 } })
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a', '1', { retain: true, qos: 1 })
    publisher.publish('b', '1', { retain: true, qos: 1 })
    const quota = -ERROR_CODES.quotaExceeded
    expect(publisher.publish('c', '1', { retain: true, qos: 1 })).toBe(quota)
    expect(publisher.publish('b', '2', { retain: true, qos: 1 })).toBeGreaterThan(0)
    expect(rig.dropped('retained_quota')).toBe(1)
  })

  it('is bounded in levels too: two hundred of them cost more memory than their bytes', async () => {
    await rig.close()
    rig = await openRig({ limits: { retainedMax: 10 } })
    const publisher = new Client(rig, 'p').open()
    const deep = (first: string) => `${first}${'/a'.repeat(50)}`
    const quota = -ERROR_CODES.quotaExceeded
    expect(publisher.publish(deep('1'), '1', { retain: true, qos: 1 })).toBeGreaterThan(0)
    expect(publisher.publish(deep('2'), '1', { retain: true, qos: 1 })).toBe(quota)
    expect(publisher.publish(deep('1'), '2', { retain: true, qos: 1 })).toBeGreaterThan(0)
    publisher.publish(deep('1'), '', { retain: true, qos: 1 })
    expect(publisher.publish(deep('2'), '1', { retain: true, qos: 1 })).toBeGreaterThan(0)
  })
})

describe('the permission to read', () => {
  const reader = new Principal(
    'u',
    [],
    '/',
    [],
    [{ effect: 'allow', access: 'readwrite', filter: '#' }],
    false
  )
  const nobody = new Principal(
    'u',
    [],
    '/',
    [],
    [{ effect: 'deny', access: 'read', filter: 'a' }],
    false
  )

  it('is judged anew at delivery when it changed', () => {
    const client = new Client(rig, 'c', reader).open()
    join(client, '#')
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a', '1')
    client.principal = nobody
    permissionsChanged(rig.broker)
    publisher.publish('a', '2')
    expect(client.payloads).toEqual(['1'])
  })

  it('is judged by the rules of now for a session without a client', async () => {
    await rig.close()
    rig = await openRig({ principalOf: user => (user === 'u' ? nobody : ANYBODY) })
    const client = new Client(rig, 'c', reader).open({ expiry: 60 })
    join(client, '#', { qos: 1 })
    client.close()
    new Client(rig, 'p').open().publish('a', '1', { qos: 1 })
    expect(rig.session('c').queue.readyCount).toBe(0)
  })

  it('that was taken away since keeps back what waited', async () => {
    await rig.close()
    rig = await openRig({ principalOf: user => (user === 'u' ? reader : ANYBODY) })
    const client = new Client(rig, 'c', reader).open({ expiry: 60 })
    join(client, '#', { qos: 1 })
    client.close()
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a', '1', { qos: 1 })
    expect(rig.session('c').queue.readyCount).toBe(1)
    const again = new Client(rig, 'c', nobody).open({ expiry: 60 })
    expect(again.got).toEqual([])
    expect(rig.dropped('not_authorized')).toBe(1)
  })
})

describe('while the disk takes nothing', () => {
  it('what must last is refused, and counted once', () => {
    const client = new Client(rig, 'c').open({ expiry: 60 })
    join(client, 'a', { qos: 1 })
    const publisher = new Client(rig, 'p').open()
    rig.broker.diskAlarm = true
    rig.broker.judge()
    expect(publisher.publish('a', 'x', { qos: 1 })).toBe(-ERROR_CODES.diskAlarm)
    expect(rig.dropped('disk_alarm')).toBe(1)
    expect(publisher.publish('a', 'direct')).toBe(0)
    expect(client.payloads).toEqual(['direct'])
    expect(rig.dropped('disk_alarm')).toBe(1)
    rig.broker.diskAlarm = false
    rig.broker.judge()
    expect(publisher.publish('a', 'y', { qos: 1 })).toBeGreaterThan(0)
  })

  it('what needs no disk has a bound in memory', async () => {
    await rig.close()
    rig = await openRig({ limits: { memoryBytesMax: 200_000, sessionMessagesMax: 100_000 } })
    const client = new Client(rig, 'c').open()
    client.takes = false
    join(client, 'a', { qos: 1 })
    const publisher = new Client(rig, 'p').open()
    rig.broker.diskAlarm = true
    rig.broker.judge()
    for (let i = 0; i < 500; i++) publisher.publish('a', 'x'.repeat(1_000), { qos: 1 })
    expect(rig.broker.slabs.bytes).toBeLessThanOrEqual(270_000)
    expect(rig.dropped('memory')).toBe(500 - client.session!.queue.readyCount)
    expect(rig.dropped('memory')).toBeGreaterThan(200)
  })
})
