import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Consumer } from '../../src/broker/consumer.ts'
import { cancel, consume } from '../../src/broker/consumers.ts'
import { ready } from '../../src/broker/deliver.ts'
import { takeableQueue } from '../../src/broker/group-takers.ts'
import { subscribe } from '../../src/broker/sessions.ts'
import { settle } from '../../src/broker/settle.ts'
import type { Message } from '../../src/core/message.ts'
import { Principal } from '../../src/core/principal.ts'
import type { Queue } from '../../src/core/queue.ts'
import { ANYBODY, Client, openRig, type Rig, turns } from '../support/broker-rig.ts'

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
  rig = await openRig({ limits: { sharedMembersMax: 2 } })
})

afterEach(async () => {
  await rig.close()
})

/** What an AMQP consumer is to the broker. */
class Taker implements Consumer {
  readonly noAck = false
  readonly got: string[] = []
  readonly queue: Queue
  credit = 100
  #last = 0

  constructor(principal = ANYBODY, name = JOBS) {
    this.queue = takeableQueue(rig.broker, rig.vhost, name, principal, true)!
  }

  start(exclusive = false): this {
    consume(rig.broker, this.queue, this, { exclusive, priority: 0 })
    return this
  }

  hasCredit(): boolean {
    return this.got.length < this.credit
  }

  deliver(message: Message, _queue: Queue, sequence: number): void {
    this.got.push(message.source.toString('utf8', message.payloadStart, message.payloadEnd))
    this.#last = sequence
  }

  settleLast(): void {
    settle(rig.broker, this.queue, this.#last)
  }

  onCancelled(): void {
    throw new Error('a shared subscription does not end while somebody consumes it')
  }
}

function reader(name: string, filter: string): Principal {
  const rule = { effect: 'allow', access: 'read', filter } as const
  return new Principal(
    name,
    [],
    '/',
    [{ vhost: '/', configure: '', write: '', read: '.*' }],
    [rule],
    false
  )
}

describe('an AMQP consumer of a shared subscription', () => {
  it('gets what no member may read, in its place of the order, and members wait for that', async () => {
    const red = new Client(rig, 'red', reader('red', 'jobs/red')).open()
    expect(subscribe(rig.broker, red.session!, JOBS, OPTIONS)).toBe(1)
    const taker = new Taker().start()
    taker.credit = 1
    const from = new Client(rig, 'p').open()
    await turns()
    from.publish('jobs/blue', 'v', { qos: 1 })
    await turns()
    expect(taker.got).toEqual(['v'])
    for (const [topic, payload] of [
      ['jobs/red', 'u'],
      ['jobs/blue', 'w'],
      ['jobs/red', 'x']
    ] as const) {
      from.publish(topic, payload, { qos: 1 })
      await turns()
    }
    expect([red.payloads, taker.got]).toEqual([['u'], ['v']])
    taker.credit = 2
    ready(rig.broker, taker.queue)
    await turns()
    expect([red.payloads, taker.got]).toEqual([
      ['u', 'x'],
      ['v', 'w']
    ])
    expect(rig.dropped('not_authorized')).toBe(0)
  })

  it('leaves, and what only it might read is dropped, counted', async () => {
    const red = new Client(rig, 'red', reader('red', 'jobs/red')).open()
    subscribe(rig.broker, red.session!, JOBS, OPTIONS)
    const taker = new Taker().start()
    taker.credit = 0
    const from = new Client(rig, 'p').open()
    from.publish('jobs/blue', 'v', { qos: 1 })
    from.publish('jobs/red', 'u', { qos: 1 })
    await turns()
    cancel(rig.broker, taker.queue, taker)
    await turns()
    expect([red.payloads, rig.dropped('not_authorized')]).toEqual([['u'], 1])
  })

  it('may read all that the filter matches, or is refused', () => {
    const begins = (principal: Principal, name: string) => () => new Taker(principal, name)
    const some = reader('some', 'jobs/red')
    expect(begins(some, '$share/g/jobs/red')).not.toThrow()
    expect(begins(some, JOBS)).toThrow('refused')
    expect(begins(some, '$share/g/jobs/+')).toThrow('refused')
    const none = new Principal(
      'none',
      [],
      '/',
      [{ vhost: '/', configure: '', write: '', read: '^q' }],
      [],
      false
    )
    expect(begins(none, JOBS)).toThrow("read access to exchange 'amq.topic'")
  })

  it('counts as a member, is never exclusive, and ends the group when it was the last', async () => {
    expect(() => new Taker().start(true)).toThrow('exclusive')
    const [one, two] = [new Taker().start(), new Taker().start()]
    expect(() => new Taker()).toThrow('limit')
    const late = new Client(rig, 'late').open()
    expect(subscribe(rig.broker, late.session!, JOBS, OPTIONS)).toBeLessThan(0)
    new Client(rig, 'p').open().publish('jobs/x', 'u', { qos: 1 })
    await turns()
    expect([one.got, two.got]).toEqual([['u'], []])
    one.settleLast()
    cancel(rig.broker, one.queue, one)
    expect(rig.vhost.groups.has(JOBS)).toBe(true)
    cancel(rig.broker, two.queue, two)
    expect(rig.vhost.groups.has(JOBS)).toBe(false)
    expect(rig.broker.state.queues.has(two.queue.id)).toBe(false)
  })
})
