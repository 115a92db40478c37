import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ready } from '../../src/broker/deliver.ts'
import { subscribe, unsubscribe } from '../../src/broker/sessions.ts'
import { received, settle } from '../../src/broker/settle.ts'
import { ERROR_CODES } from '../../src/core/errors.ts'
import { Principal } from '../../src/core/principal.ts'
import { Client, openRig, type Rig, turns } from '../support/broker-rig.ts'

const OPTIONS = {
  qos: 1,
  noLocal: false,
  retainAsPublished: false,
  retainHandling: 2,
  identifier: 0
}

let rig: Rig
let watcher: Client

beforeEach(async () => {
  rig = await openRig()
  watch()
})

afterEach(async () => {
  await rig.close()
})

function watch(): void {
  watcher = new Client(rig, 'watcher').open()
  join(watcher, 'will/#')
}

function join(client: Client, filter: string, qos = 1): number {
  return subscribe(rig.broker, client.session!, filter, { ...OPTIONS, qos })
}

describe('a session', () => {
  it('that ends with its connection is gone with all that it held', () => {
    const client = new Client(rig, 'c').open()
    join(client, 'a')
    expect(client.result).toMatchObject({ code: 0, present: false, ticket: 0 })
    client.close('lost')
    expect(rig.session('c')).toBeUndefined()
    expect(new Client(rig, 'c').open().result.present).toBe(false)
  })

  it('that outlives it is there again, also after a crash, and its CONNACK waits', async () => {
    const client = new Client(rig, 'c').open({ expiry: 60 })
    expect(client.result.ticket).toBeGreaterThan(rig.journal.durableTicket)
    join(client, 'a')
    expect(client.session!.ticket).toBeGreaterThan(client.result.ticket)
    await rig.flush()
    rig = await rig.crash()
    const again = new Client(rig, 'c').open({ expiry: 60 })
    expect(again.result.present).toBe(true)
    new Client(rig, 'p').open().publish('a', 'x', { qos: 1 })
    expect(again.payloads).toEqual(['x'])
    expect(unsubscribe(rig.broker, again.session!, 'a')).toBe(true)
    expect(unsubscribe(rig.broker, again.session!, 'a')).toBe(false)
    await rig.flush()
    rig = await rig.crash()
    expect(rig.session('c').subscriptions.size).toBe(0)
  })

  it('is discarded by a clean start, which is recorded', async () => {
    join(new Client(rig, 'c').open({ expiry: 60 }), 'a')
    const clean = new Client(rig, 'c').open({ clean: true })
    expect(clean.result).toMatchObject({ code: 0, present: false })
    expect(clean.result.ticket).toBeGreaterThan(0)
    await rig.flush()
    rig = await rig.crash()
    expect(rig.session('c')).toBeUndefined()
  })

  it('ends when its time is over, not before, and not when its client came back', async () => {
    new Client(rig, 'c').open({ expiry: 60 }).close()
    await rig.pass(59_000)
    const back = new Client(rig, 'c').open({ expiry: 60 })
    expect(back.result.present).toBe(true)
    await rig.pass(120_000)
    expect(rig.session('c')).toBeDefined()
    back.close('disconnect', 5)
    await rig.pass(6_000)
    expect(rig.session('c')).toBeUndefined()
  })

  it('goes on counting its time over a restart', async () => {
    new Client(rig, 'c').open({ expiry: 60 }).close()
    await rig.pass(30_000)
    rig = await rig.restart()
    await rig.pass(29_000)
    expect(rig.session('c')).toBeDefined()
    await rig.pass(2_000)
    expect(rig.session('c')).toBeUndefined()
  })

  it('is taken over by a new connection, which gets what was in flight', () => {
    const client = new Client(rig, 'c').open({ expiry: 60 })
    join(client, 'a')
    new Client(rig, 'p').open().publish('a', 'x', { qos: 1 })
    const second = new Client(rig, 'c').open({ expiry: 60 })
    expect(client.events).toEqual(['taken over'])
    expect(second.result.present).toBe(true)
    expect(second.got).toEqual([expect.objectContaining({ payload: 'x', isRedelivered: true })])
    client.close('lost')
    expect(rig.session('c').connection).toBe(second)
  })

  it('belongs to the user who opened it', () => {
    const other = new Principal('other', [], '/', [], [], true)
    new Client(rig, 'c').open({ expiry: 60 }).close()
    const refused = new Client(rig, 'c', other).open({ expiry: 60 })
    expect(refused.result.code).toBe(ERROR_CODES.clientIdTaken)
    expect(new Client(rig, 'c').open({ expiry: 60 }).result.code).toBe(0)
  })

  it('leaves one deadline behind, however often its client comes and goes', () => {
    for (let i = 0; i < 100; i++) new Client(rig, 'c').open({ expiry: 60 }).close()
    expect(rig.broker.deadlines.size).toBe(1)
  })

  it('gets PUBRELs first, then what was sent before in its order, then what is new', async () => {
    const client = new Client(rig, 'c').open({ expiry: 60 })
    client.inflightMax = 4
    join(client, 'a', 2)
    const publisher = new Client(rig, 'p').open()
    for (let i = 1; i <= 6; i++) {
      publisher.publish('a', `${i}`, { qos: i % 2 === 0 ? 2 : 1, packetId: 0 })
    }
    await rig.flush()
    expect(client.payloads).toEqual(['1', '2', '3', '4'])
    received(rig.broker, client.session!, client.got[1]!.sequence)
    const again = new Client(rig, 'c')
    again.inflightMax = 3
    again.open({ expiry: 60 })
    expect(again.resent).toEqual([2])
    expect(again.payloads).toEqual(['1', '3'])
    settle(rig.broker, again.session!.queue, 2)
    settle(rig.broker, again.session!.queue, 1)
    ready(rig.broker, again.session!.queue)
    expect(again.got.map(({ payload, isRedelivered }) => [payload, isRedelivered])).toEqual([
      ['1', true],
      ['3', true],
      ['4', true],
      ['5', false]
    ])
  })

  it('waits with a packet identifier that is still open when all others were used', () => {
    const client = new Client(rig, 'c').open()
    client.inflightMax = 70_000
    join(client, 'a')
    const session = client.session!
    const publisher = new Client(rig, 'p').open()
    publisher.publish('a', 'open', { qos: 1 })
    for (let i = 1; i < 65_535; i++) {
      publisher.publish('a', 'x', { qos: 1 })
      settle(rig.broker, session.queue, session.queue.lastTaken)
    }
    expect(client.got).toHaveLength(65_535)
    const first = client.got[0]!.sequence
    publisher.publish('a', 'same identifier', { qos: 1 })
    publisher.publish('a', 'behind it', { qos: 1 })
    expect(client.got).toHaveLength(65_535)
    expect(session.packetId(first)).toBe(session.packetId(first + 65_535))
    settle(rig.broker, session.queue, first)
    ready(rig.broker, session.queue)
    expect(client.payloads.slice(-2)).toEqual(['same identifier', 'behind it'])
    expect(session.sequenceOf(session.packetId(first))).toBe(first + 65_535)
  })
})

describe('a will', () => {
  const will = { topic: 'will/c', qos: 1 }

  it('is published when the client is lost, not when it says goodbye', () => {
    new Client(rig, 'c').open({ will }).close('disconnect')
    expect(watcher.got).toEqual([])
    new Client(rig, 'c').open({ will }).close('with-will')
    new Client(rig, 'c').open({ will }).close('lost')
    expect(watcher.payloads).toEqual(['lost', 'lost'])
  })

  it('waits its delay, and is cancelled by the return of the client', async () => {
    const delayed = { ...will, delaySeconds: 10 }
    new Client(rig, 'c').open({ expiry: 60, will: delayed }).close('lost')
    await rig.pass(9_000)
    new Client(rig, 'c').open({ expiry: 60 }).close('lost')
    await rig.pass(20_000)
    expect(watcher.got).toEqual([])
    new Client(rig, 'c').open({ expiry: 60, will: delayed }).close('lost')
    await rig.pass(11_000)
    expect(watcher.payloads).toEqual(['lost'])
  })

  it('is published when the session ends before its delay is over', async () => {
    const delayed = { ...will, delaySeconds: 100 }
    new Client(rig, 'c').open({ expiry: 20, will: delayed }).close('lost')
    await rig.pass(21_000)
    expect(watcher.payloads).toEqual(['lost'])
    await rig.pass(100_000)
    expect(watcher.payloads).toEqual(['lost'])
  })

  it('is published on a takeover without a delay or with an end, else not', () => {
    new Client(rig, 'c').open({ expiry: 60, will })
    new Client(rig, 'c').open({ expiry: 60, will: { ...will, delaySeconds: 5 } })
    expect(watcher.got).toHaveLength(1)
    new Client(rig, 'c').open({ expiry: 60, will: { ...will, delaySeconds: 5 } })
    expect(watcher.got).toHaveLength(1)
    new Client(rig, 'c').open({ clean: true, will })
    expect(watcher.got).toHaveLength(2)
    new Client(rig, 'c').open({})
    expect(watcher.got).toHaveLength(3)
  })

  it('of any client waits 30 seconds after our own crash, and is cancelled by a return', async () => {
    for (const id of ['clean', 'back']) new Client(rig, id).open({ will })
    new Client(rig, 'lasting').open({ expiry: 600, will })
    await rig.flush()
    rig = await rig.crash()
    watch()
    await rig.pass(29_000)
    new Client(rig, 'back').open()
    expect(watcher.got).toEqual([])
    await rig.pass(2_000)
    expect(watcher.payloads).toEqual(['lost', 'lost'])
    await rig.flush()
    rig = await rig.crash()
    watch()
    await rig.pass(60_000)
    expect(watcher.got).toEqual([])
  })

  it('of who was connected when we stopped waits too', async () => {
    const clients = [new Client(rig, 'c').open({ will }), new Client(rig, 'd').open({ will })]
    rig.stop()
    for (const client of clients) client.close('lost')
    expect(watcher.got).toEqual([])
    rig = await rig.restart()
    watch()
    await rig.pass(31_000)
    expect(watcher.got).toHaveLength(2)
  })

  it('counts its delay from the first start on, however often we start again', async () => {
    const delayed = { ...will, delaySeconds: 100 }
    new Client(rig, 'c').open({ expiry: 600, will: delayed })
    await rig.flush()
    rig = await rig.crash()
    await rig.pass(50_000)
    await rig.flush()
    rig = await rig.crash()
    watch()
    await rig.pass(79_000)
    expect(watcher.got).toEqual([])
    await rig.pass(2_000)
    expect(watcher.payloads).toEqual(['lost'])
  })

  it('that the disk has no room for waits until there is room, and is published once', async () => {
    const keeper = new Client(rig, 'keeper').open({ expiry: 600 })
    join(keeper, 'will/#')
    keeper.close('lost')
    rig.broker.diskAlarm = true
    rig.broker.judge()
    new Client(rig, 'c').open({ will }).close('lost')
    await rig.pass(5_000)
    expect(rig.session('keeper')!.queue.count).toBe(0)
    rig.broker.diskAlarm = false
    rig.broker.judge()
    await rig.pass(1_500)
    expect(rig.session('keeper')!.queue.count).toBe(1)
    await rig.flush()
    rig = await rig.crash()
    await rig.pass(60_000)
    expect(rig.session('keeper')!.queue.count).toBe(1)
    expect(rig.broker.state.orphanWills.size).toBe(0)
  })

  it('is refused when its client may not publish it', () => {
    const rules = [{ effect: 'allow', access: 'read', filter: '#' } as const]
    const reader = new Principal('u', [], '/', [], rules, false)
    const client = new Client(rig, 'c', reader).open({ will })
    expect(client.result.code).toBe(ERROR_CODES.notAuthorized)
  })
})

describe('the memory of sessions without a disk', () => {
  it('is given back when everything is settled', async () => {
    const client = new Client(rig, 'c').open()
    client.inflightMax = 0
    join(client, 'a')
    const publisher = new Client(rig, 'p').open()
    for (let i = 0; i < 2_000; i++) publisher.publish('a', 'x'.repeat(i % 300), { qos: 1 })
    expect(rig.broker.slabs.bytes).toBeGreaterThan(3 * 64 * 1024)
    client.inflightMax = 10_000
    ready(rig.broker, client.session!.queue)
    await turns(20)
    expect(client.got).toHaveLength(2_000)
    for (const { sequence } of client.got) settle(rig.broker, client.session!.queue, sequence)
    expect(rig.broker.slabs.bytes).toBeLessThanOrEqual(64 * 1024)
    expect(client.session!.queue.count).toBe(0)
  })

  it('is given back when their sessions end', () => {
    const clients = ['a', 'b', 'c'].map(id => new Client(rig, id).open())
    for (const client of clients) {
      client.inflightMax = 0
      join(client, 'a')
    }
    const publisher = new Client(rig, 'p').open()
    for (let i = 0; i < 2_000; i++) publisher.publish('a', 'x'.repeat(200), { qos: 1 })
    for (const client of clients) client.close('lost')
    expect(rig.broker.slabs.bytes).toBeLessThanOrEqual(64 * 1024)
    expect(rig.dropped('session_ended')).toBe(6_000)
  })
})
