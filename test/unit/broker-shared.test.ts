import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { wakeSession } from '../../src/broker/group-member.ts'
import { subscribe, unsubscribe } from '../../src/broker/sessions.ts'
import { received, settle } from '../../src/broker/settle.ts'
import { ERROR_CODES } from '../../src/core/errors.ts'
import { Principal } from '../../src/core/principal.ts'
import type { SharedGroup } from '../../src/core/shared-group.ts'
import { Client, openRig, type Rig, turns } from '../support/broker-rig.ts'

const JOBS = '$share/g/jobs/#'
const OPTIONS = {
  qos: 1,
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

function join(client: Client, filter = JOBS, options: Partial<typeof OPTIONS> = {}): number {
  return subscribe(rig.broker, client.session!, filter, { ...OPTIONS, ...options })
}

/** A member whose session ends with its connection, or `lasts`. */
function member(id: string, lasts = false, options: Partial<typeof OPTIONS> = {}): Client {
  const client = new Client(rig, id).open({ expiry: lasts ? 3_600 : 0 })
  expect(join(client, JOBS, options)).toBe(options.qos ?? 1)
  return client
}

function publisher(): Client {
  return new Client(rig, 'p').open()
}

function group(text = JOBS): SharedGroup {
  return rig.vhost.groups.get(text)!
}

/** PUBACK of everything that a client got. */
function acknowledge(client: Client): void {
  const { session } = client
  for (const sequence of session!.queue.openSequences()) {
    settle(rig.broker, session!.queue, sequence)
  }
  wakeSession(rig.broker, session!)
}

function send(from: Client, names: string, qos = 1): void {
  for (const [at, name] of [...names].entries()) {
    from.publish('jobs/x', name, { qos, packetId: qos === 2 ? at + 1 : 0 })
  }
}

const text = (client: Client) => client.payloads.join('')

describe('a shared subscription', () => {
  it('gives each message to one member, in turn', () => {
    const [a, b, c] = [member('a'), member('b'), member('c')]
    send(publisher(), 'uvwxyz')
    expect([text(a), text(b), text(c)]).toEqual(['ux', 'vy', 'wz'])
    send(publisher(), '123', 0)
    expect([a, b, c].map(client => client.got.length)).toEqual([3, 3, 3])
    expect(rig.dropped('no_match')).toBe(0)
  })

  it('goes by credit: who acknowledges nothing gets no more than its receive maximum', () => {
    const [a, b] = [member('a'), member('b', true)]
    a.inflightMax = 2
    send(publisher(), 'uvwxyz')
    expect([text(a), text(b)]).toEqual(['uw', 'vxyz'])
    acknowledge(a)
    send(publisher(), '12')
    expect(text(a).length + text(b).length).toBe(8)
    b.inflightMax = 1
    acknowledge(b)
    a.inflightMax = 1
    send(publisher(), '345')
    expect(group().queue.readyCount).toBe(2)
    acknowledge(a)
    acknowledge(b)
    expect(group().queue.readyCount).toBe(0)
  })

  it('grants each member its own QoS, identifier and retain flag, v5 [MQTT-4.8.2-3]', () => {
    const a = member('a', false, { qos: 2, identifier: 7, retainAsPublished: true })
    const b = member('b', false, { qos: 1, identifier: 9 })
    const c = member('c', false, { qos: 0 })
    const p = publisher()
    for (let at = 1; at <= 3; at++) p.publish('jobs/x', 'm', { qos: 2, retain: true, packetId: at })
    expect(a.got[0]).toMatchObject({ qos: 2, retain: true, ids: [7] })
    expect(b.got[0]).toMatchObject({ qos: 1, retain: false, ids: [9] })
    expect(c.got[0]).toMatchObject({ qos: 0, retain: false, ids: null, sequence: -1 })
    expect(group().queue.count).toBe(2)
  })

  it('sends nothing that is retained, whatever the retain handling [MQTT 5 §4.8.2]', async () => {
    publisher().publish('jobs/x', 'kept', { qos: 1, retain: true })
    const a = member('a')
    await rig.flush()
    await turns(4)
    expect(a.payloads).toEqual([])
  })

  it('is one for each name and filter, and counts beside an ordinary one of the same session', () => {
    const a = member('a')
    join(a, '$share/g/jobs/x')
    join(a, '$share/h/jobs/#')
    join(a, 'jobs/#')
    send(publisher(), 'm')
    expect(text(a)).toBe('mmmm')
    expect(rig.vhost.groups.size).toBe(3)
  })

  it('replaces the options of a member that subscribes again, and takes nothing twice', () => {
    const a = member('a', false, { identifier: 3 })
    expect(join(a, JOBS, { qos: 0, identifier: 5 })).toBe(0)
    send(publisher(), 'm')
    expect(a.got).toMatchObject([{ qos: 0, ids: [5] }])
    expect(group().members.size).toBe(1)
  })

  it('ends with its last member, and counts what waited', () => {
    const a = member('a')
    a.takes = false
    send(publisher(), 'mn')
    expect(group().queue.readyCount).toBe(2)
    unsubscribe(rig.broker, a.session!, JOBS)
    expect(group()).toBeUndefined()
    expect(rig.dropped('queue_deleted')).toBe(2)
    expect(rig.broker.state.queues.size).toBe(2)
    send(publisher(), 'm')
    expect(rig.dropped('no_match')).toBe(1)
  })

  it('has bounds: the oldest go, counted; so many members', async () => {
    await rig.close()
    rig = await openRig({ limits: { sharedMessagesMax: 3, sharedMembersMax: 2 } })
    const a = member('a')
    a.takes = false
    member('b').takes = false
    const third = new Client(rig, 'c').open()
    expect(join(third)).toBe(-ERROR_CODES.quotaExceeded)
    send(publisher(), 'uvwxyz')
    expect(rig.dropped('queue_full')).toBe(3)
    a.takes = true
    wakeSession(rig.broker, a.session!)
    expect(text(a)).toBe('xyz')
  })

  it('gives QoS 0 to whoever is there and takes it, else drops it, counted', () => {
    const [a, b] = [member('a'), member('b', true)]
    a.takes = false
    send(publisher(), 'uv', 0)
    expect(text(b)).toBe('uv')
    b.takes = false
    send(publisher(), 'w', 0)
    expect(rig.dropped('slow_consumer')).toBe(1)
    a.close()
    b.close()
    send(publisher(), 'x', 0)
    expect(rig.dropped('offline_qos0')).toBe(1)
    expect(group().queue.readyCount).toBe(0)
  })
})

describe('what a member has not acknowledged', () => {
  it('goes to another when its session ends, in its old place', async () => {
    const [a, b] = [member('a'), member('b')]
    b.inflightMax = 1
    send(publisher(), 'uvwxyz')
    expect([text(a), text(b)]).toEqual(['uwxyz', 'v'])
    settle(rig.broker, a.session!.queue, a.got[1]!.sequence)
    a.close('lost')
    b.inflightMax = 10
    await turns()
    expect(text(b)).toBe('vuxyz')
    expect(b.got.map(({ isRedelivered }) => isRedelivered)).not.toContain(true)
    expect(rig.dropped('session_ended')).toBe(0)
  })

  it('stays with a session that only lost its connection, and others get what is new', async () => {
    const a = member('a', true)
    send(publisher(), 'uv')
    const b = member('b', true)
    a.close('lost')
    await turns()
    send(publisher(), 'w')
    expect([text(a), text(b)]).toEqual(['uv', 'w'])
    const back = new Client(rig, 'a').open({ expiry: 3_600 })
    expect(text(back)).toBe('uv')
    expect(back.got.map(({ isRedelivered }) => isRedelivered)).toEqual([true, true])
    expect(back.got.map(({ sequence }) => sequence)).toEqual(a.got.map(({ sequence }) => sequence))
  })

  it('goes to another when the session expires or is discarded, over the disk', async () => {
    const a = member('a', true)
    send(publisher(), 'uv')
    const b = member('b', true)
    a.close('lost', 60)
    await rig.pass(61_000)
    expect(text(b)).toBe('uv')
    b.close('lost')
    const c = member('c', true)
    new Client(rig, 'b').open({ clean: true, expiry: 3_600 })
    await turns()
    expect(text(c)).toBe('uv')
  })

  it('never goes to another with QoS 2, v5 [MQTT-4.8.2-5]', async () => {
    const a = member('a', true, { qos: 2 })
    send(publisher(), 'uv', 2)
    await rig.flush()
    expect(text(a)).toBe('uv')
    received(rig.broker, a.session!, a.got[0]!.sequence)
    const b = member('b', true, { qos: 2 })
    const passing = member('c', false, { qos: 2 })
    a.close('disconnect', 0)
    await turns()
    passing.close('lost')
    await rig.flush()
    expect(text(b)).toBe('')
    expect(group().queue.count).toBe(0)
    rig = await rig.crash()
    expect(group().queue.count).toBe(0)
  })

  it('of QoS 2 is completed with its client when that is back, v5 [MQTT-4.8.2-4]', async () => {
    const a = member('a', true, { qos: 2 })
    const b = member('b', true, { qos: 2 })
    send(publisher(), 'uv', 2)
    await rig.flush()
    received(rig.broker, a.session!, a.got[0]!.sequence)
    await rig.flush()
    rig = await rig.crash()
    const again = new Client(rig, 'a').open({ expiry: 3_600 })
    expect([again.payloads, again.resent]).toEqual([[], [a.got[0]!.sequence]])
    const other = new Client(rig, 'b').open({ expiry: 3_600 })
    await turns()
    expect(other.got).toMatchObject([{ payload: 'v', sequence: b.got[0]!.sequence }])
  })

  it('of QoS 2 that waited for the disk and never left goes to another', async () => {
    const a = member('a', true, { qos: 2 })
    const b = member('b', true, { qos: 2 })
    b.takes = false
    send(publisher(), 'uv', 2)
    expect(text(a)).toBe('')
    b.takes = true
    a.close('disconnect', 0)
    await turns()
    await rig.flush()
    expect(text(b)).toBe('uv')
  })

  it('leaves only when its move is durable for QoS 2, at once for QoS 1', async () => {
    const a = member('a', true, { qos: 2 })
    await rig.flush()
    send(publisher(), 'u', 1)
    expect(text(a)).toBe('u')
    send(publisher(), 'v', 2)
    expect(text(a)).toBe('u')
    await rig.flush()
    expect(text(a)).toBe('uv')
  })

  it('is completed with a client that unsubscribed, then the group is gone, v5 [MQTT-3.10.4-3]', async () => {
    const a = member('a', true)
    send(publisher(), 'uv')
    unsubscribe(rig.broker, a.session!, JOBS)
    expect(group().queue.isDeleted).toBe(false)
    await rig.flush()
    rig = await rig.crash()
    const again = new Client(rig, 'a').open({ expiry: 3_600 })
    await turns()
    expect(text(again)).toBe('uv')
    acknowledge(again)
    expect(group()).toBeUndefined()
    await rig.flush()
    rig = await rig.crash()
    expect(group()).toBeUndefined()
    expect(rig.session('a').queue.count).toBe(0)
  })
})

describe('a group that lasts', () => {
  it('keeps what comes while nobody is there, over a crash, for whoever comes', async () => {
    const [a, b] = [member('a', true), member('b', true)]
    a.close('lost')
    b.close('lost')
    expect(publisher().publish('jobs/x', 'u', { qos: 1 })).toBeGreaterThan(0)
    send(publisher(), 'v')
    await rig.flush()
    rig = await rig.crash()
    expect(group().members.size).toBe(2)
    const again = new Client(rig, 'b').open({ expiry: 3_600 })
    await turns()
    expect(text(again)).toBe('uv')
    acknowledge(again)
    await rig.flush()
    rig = await rig.restart()
    expect(group().queue.count).toBe(0)
    expect(rig.session('b').queue.count).toBe(0)
  })

  it('lasts from its first lasting member to its last, with what waits', async () => {
    const a = member('a')
    a.takes = false
    expect(publisher().publish('jobs/x', 'u', { qos: 1 })).toBe(0)
    const b = member('b', true)
    b.takes = false
    await rig.flush()
    expect(publisher().publish('jobs/x', 'v', { qos: 1 })).toBeGreaterThan(0)
    await rig.flush()
    rig = await rig.crash()
    expect(group().queue.readyCount).toBe(2)
    const c = member('c')
    c.inflightMax = 1
    await turns()
    expect(text(c)).toBe('u')
    new Client(rig, 'b').open({ clean: true })
    expect(publisher().publish('jobs/x', 'w', { qos: 1 })).toBe(0)
    acknowledge(c)
    expect(text(c)).toBe('uv')
    await rig.flush()
    rig = await rig.crash()
    expect(group()).toBeUndefined()
    expect(rig.broker.state.queues.size).toBe(0)
  })

  it('lasts again with what waited while it did not, but for QoS 2 that was sent', async () => {
    const a = member('a', true)
    const b = member('b')
    a.takes = false
    b.takes = false
    send(publisher(), 'uv')
    await rig.flush()
    new Client(rig, 'a').open({ clean: true })
    expect(group().queue.isDurable).toBe(false)
    expect(join(b, JOBS, { qos: 2 })).toBe(2)
    b.takes = true
    b.inflightMax = 1
    settle(rig.broker, b.session!.queue, b.got[0]?.sequence ?? 0)
    wakeSession(rig.broker, b.session!)
    expect(text(b)).toBe('u')
    acknowledge(b)
    b.takes = false
    acknowledge(b)
    send(publisher(), 'w', 2)
    b.inflightMax = 2
    b.takes = true
    await turns()
    expect(text(b)).toBe('uvw')
    b.takes = false
    send(publisher(), 'x')
    const c = member('c', true)
    c.takes = false
    expect(group().queue.isDurable).toBe(true)
    await rig.flush()
    rig = await rig.crash()
    const again = new Client(rig, 'c').open({ expiry: 3_600 })
    await turns()
    expect(text(again)).toBe('x')
  })

  it('has what a member without a lasting session was sent back after a crash', async () => {
    member('a', true).close('lost')
    const b = member('b', false, { qos: 2 })
    send(publisher(), 'u', 1)
    send(publisher(), 'v', 2)
    await rig.flush()
    expect(text(b)).toBe('uv')
    rig = await rig.crash()
    const again = new Client(rig, 'a').open({ expiry: 3_600 })
    await turns()
    // QoS 2 was sent to somebody: never to another [MQTT-4.8.2-5].
    expect(text(again)).toBe('u')
  })

  it('asks what a client that comes back without a lasting session had to be given to others', async () => {
    const a = member('a', true)
    const b = member('b', true)
    send(publisher(), 'uv')
    a.close('lost')
    new Client(rig, 'a').open({ expiry: 0 }).takes = false
    await turns()
    expect(text(b)).toBe('vu')
    await rig.flush()
    rig = await rig.crash()
    expect(group().members.size).toBe(1)
    expect(rig.session('b').queue.count).toBe(2)
  })
})

describe('permissions', () => {
  const reads = (name: string, ...filters: string[]) =>
    new Principal(
      name,
      [],
      '/',
      [],
      filters.map(filter => ({ effect: 'allow', access: 'read', filter }) as const),
      false
    )
  const users = new Map([
    ['red', reads('red', 'jobs/red')],
    ['any', reads('any', 'jobs/#')]
  ])

  it('are judged on the inner filter, and for each member and message [B71]', async () => {
    await rig.close()
    rig = await openRig({ principalOf: user => users.get(user) ?? null })
    const red = new Client(rig, 'r', users.get('red')).open({ expiry: 60 })
    expect(join(red, '$share/g/secret/#')).toBe(-ERROR_CODES.notAuthorized)
    expect(join(red, '$share/g/$SYS/#')).toBe(-ERROR_CODES.notAuthorized)
    expect(join(red, '$queue/jobs/red')).toBe(-ERROR_CODES.notAuthorized)
    expect(join(red)).toBe(1)
    const any = new Client(rig, 'a', users.get('any')).open({ expiry: 60 })
    expect(join(any)).toBe(1)
    const p = publisher()
    for (const color of ['red', 'blue', 'blue', 'red'])
      p.publish(`jobs/${color}`, color, { qos: 1 })
    expect(red.got.every(({ topic }) => topic === 'jobs/red')).toBe(true)
    expect(red.got.length + any.got.length).toBe(4)
    any.close('lost')
    p.publish('jobs/blue', 'late', { qos: 1 })
    p.publish('jobs/red', 'red', { qos: 1 })
    expect(red.payloads.at(-1)).toBe('red')
    const again = new Client(rig, 'a', users.get('any')).open({ expiry: 60 })
    expect(again.payloads).toContain('late')
  })

  it('leave a message that no member may read to nobody', () => {
    const red = new Client(rig, 'r', users.get('red')).open()
    join(red)
    publisher().publish('jobs/blue', 'x', { qos: 1 })
    expect(red.got).toEqual([])
    expect(group().queue.count).toBe(0)
  })
})
