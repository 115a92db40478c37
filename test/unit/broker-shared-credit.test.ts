import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { wakeSession } from '../../src/broker/group-member.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { settle } from '../../src/broker/settle.ts'
import { Principal } from '../../src/core/principal.ts'
import { Client, openRig, type Rig, type RigOptions, turns } from '../support/broker-rig.ts'

let rig: Rig

beforeEach(async () => {
  rig = await openRig()
})

afterEach(async () => {
  await rig.close()
})

async function reopen(options: RigOptions): Promise<void> {
  await rig.close()
  rig = await openRig(options)
}

function join(client: Client, filter: string, qos = 1): void {
  const granted = subscribe(rig.broker, client.session!, filter, {
    qos,
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 0,
    identifier: 0
  })
  expect(granted).toBe(qos)
}

const publisher = () => new Client(rig, 'p').open()
const text = (client: Client) => client.payloads.join('')

/** PUBACK of the last delivery. */
function acknowledge(client: Client): void {
  const { session } = client
  settle(rig.broker, session!.queue, client.got.at(-1)!.sequence)
  wakeSession(rig.broker, session!)
}

describe('a member of several groups with a receive maximum of 1', () => {
  it('takes from each in turn', () => {
    const a = new Client(rig, 'a').open()
    a.inflightMax = 1
    join(a, '$share/g/one')
    join(a, '$share/g/two')
    join(a, '$share/g/three')
    const p = publisher()
    for (let i = 0; i < 4; i++) {
      p.publish('one', '1', { qos: 1 })
      p.publish('two', '2', { qos: 1 })
      p.publish('three', '3', { qos: 1 })
    }
    for (let left = 8; left > 0; left--) acknowledge(a)
    for (const name of '123') {
      expect(a.payloads.filter(payload => payload === name).length, text(a)).toBe(3)
    }
  })
})

describe('what is dropped out of a member’s own queue', () => {
  it('makes room for what waits in the group: expired on its way to the disk', async () => {
    const a = new Client(rig, 'a').open({ expiry: 60 })
    a.inflightMax = 1
    join(a, '$share/g/x', 2)
    await rig.flush()
    const p = publisher()
    p.publish('x', 'u', { qos: 2, packetId: 1, expiresAt: rig.broker.nowMs + 1_000 })
    p.publish('x', 'v', { qos: 2, packetId: 2 })
    rig.clock.advance(2_000)
    await rig.flush()
    expect(rig.dropped('expired')).toBe(1)
    await turns()
    await rig.flush()
    expect(text(a)).toBe('v')
  })
})

describe('a message that only a slow member may read', () => {
  it('waits in its queue up to the bounds of a session', async () => {
    const reads = (name: string, filter: string) =>
      new Principal(name, [], '/', [], [{ effect: 'allow', access: 'read', filter }], false)
    const users = new Map([
      ['red', reads('red', '+/red')],
      ['blue', reads('blue', '+/blue')]
    ])
    await reopen({
      limits: { sessionMessagesMax: 5 },
      principalOf: user => users.get(user) ?? null
    })
    const red = new Client(rig, 'r', reads('red', 'jobs/red')).open()
    const blue = new Client(rig, 'b', reads('blue', 'jobs/blue')).open({ expiry: 60 })
    for (const client of [red, blue]) {
      subscribe(rig.broker, client.session!, '$share/g/jobs/+', {
        qos: 1,
        noLocal: false,
        retainAsPublished: false,
        retainHandling: 0,
        identifier: 0
      })
    }
    blue.takes = false
    const p = publisher()
    for (const name of 'abcdefghij') p.publish('jobs/blue', name, { qos: 1 })
    expect(blue.session!.queue.readyCount).toBe(5)
    expect(rig.dropped('queue_full')).toBe(5)
    blue.takes = true
    wakeSession(rig.broker, blue.session!)
    await turns()
    expect(text(blue)).toBe('fghij')
  })
})
