import fc from 'fast-check'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Broker } from '../../src/broker/broker.ts'
import type { Consumer } from '../../src/broker/consumer.ts'
import { cancelAll, consume } from '../../src/broker/consumers.ts'
import { ready } from '../../src/broker/deliver.ts'
import { publishTo } from '../../src/broker/publish.ts'
import { Consumers } from '../../src/broker/queue-consumers.ts'
import { FORM_AMQP } from '../../src/core/message.ts'
import type { Queue } from '../../src/core/queue.ts'
import { Backend, messageOf, openRig, turns, Worker } from '../support/broker-rig.ts'
import { declaredQueue } from '../support/declared-queue.ts'

class Taker implements Consumer {
  readonly noAck = false
  readonly name: string
  readonly priority: number
  credit: number

  constructor(name: string, priority: number, credit: number) {
    this.name = name
    this.priority = priority
    this.credit = credit
  }

  hasCredit(): boolean {
    return this.credit > 0
  }

  deliver(): void {}
  onCancelled(): void {}
}

const QUEUE = { options: { hasSingleActiveConsumer: false } } as Queue

/** Neither broker nor queue is asked for anything when somebody is picked. */
const consumersOfNothing = () =>
  new Consumers({} as Broker, QUEUE, null, () => {
    throw new Error('nothing is delivered here')
  })

function entered(...takers: Taker[]): Consumers {
  const consumers = consumersOfNothing()
  for (const taker of takers) consumers.add(taker, taker.priority)
  return consumers
}

/** Who gets the next deliveries; each takes one credit. */
function picks(consumers: Consumers, count: number): string {
  let names = ''
  for (let i = 0; i < count; i++) {
    const taker = consumers.pick() as Taker | null
    if (taker !== null) {
      taker.credit--
      consumers.passTurn()
    }
    names += taker?.name ?? '-'
  }
  return names
}

describe('the consumers of a queue', () => {
  it('of one priority take turns, whatever it is', () => {
    for (const priority of [0, 7, -3]) {
      const takers = ['a', 'b', 'c'].map(name => new Taker(name, priority, 2))
      expect(picks(entered(...takers), 7)).toBe('abcabc-')
    }
  })

  it('of a lower priority get what the higher ones have no credit for', () => {
    const low = new Taker('l', -1, 9)
    const high = [new Taker('x', 5, 1), new Taker('y', 5, 2)]
    const consumers = entered(low, new Taker('m', 0, 1), ...high)
    expect(picks(consumers, 6)).toBe('xyymll')
    high[0]!.credit = 1
    expect(picks(consumers, 2)).toBe('xl')
  })

  it('keep their turns until they are given something', () => {
    const [a, b] = [new Taker('a', 0, 9), new Taker('b', 0, 9)]
    for (const consumers of [entered(a, b), entered(a, b, new Taker('l', -1, 9))]) {
      expect([consumers.pick(), consumers.pick()]).toEqual([a, a])
      consumers.passTurn()
      expect(consumers.pick()).toBe(b)
    }
  })

  it('share the messages evenly when every other one has expired', async () => {
    const rig = await openRig()
    const queue = declaredQueue(rig, 'q')
    const publisher = new Backend(rig)
    for (let i = 0; i < 8; i++) {
      const message = messageOf('q', `${i}`)
      message.form = FORM_AMQP
      message.expiresAt = i % 2 === 0 ? rig.broker.nowMs + 1_000 : 0
      publishTo(rig.broker, rig.vhost.exchanges.get('')!, message, publisher)
    }
    await turns()
    rig.clock.advance(2_000)
    await turns()
    const workers = [new Worker(0), new Worker(0)]
    for (const worker of workers) {
      consume(rig.broker, queue, worker, { exclusive: false, priority: 0 })
    }
    await turns()
    for (const worker of workers) worker.credit = 9
    ready(rig.broker, queue)
    await turns()
    expect(workers.map(({ payloads }) => payloads)).toEqual([
      ['1', '5'],
      ['3', '7']
    ])
    await rig.close()
  })

  it('keep their turns when one of them goes', () => {
    const [a, b, c] = ['a', 'b', 'c'].map(name => new Taker(name, 0, 9)) as [Taker, Taker, Taker]
    const consumers = entered(a, b, c)
    expect(picks(consumers, 2)).toBe('ab')
    consumers.remove(a)
    expect(picks(consumers, 3)).toBe('cbc')
  })

  it('are of one priority again when those of the others have gone', () => {
    const [a, b, high] = [new Taker('a', 0, 9), new Taker('b', 0, 9), new Taker('h', 1, 9)]
    const consumers = entered(a, high, b)
    expect(picks(consumers, 2)).toBe('hh')
    expect(consumers.remove(high)).toBe(true)
    expect(consumers.remove(high)).toBe(false)
    expect(picks(consumers, 4)).toBe('abab')
    consumers.add(high, 1)
    expect(picks(consumers, 2)).toBe('hh')
  })

  it('are picked by priority, then in turn, after any adding and removing', () => {
    const step = fc.oneof(
      fc.record({ add: fc.integer({ min: -2, max: 2 }), credit: fc.integer({ min: 0, max: 3 }) }),
      fc.record({ remove: fc.nat(20) }),
      fc.record({ refill: fc.nat(20) }),
      fc.constant({ pick: true })
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const consumers = consumersOfNothing()
        const present: Taker[] = []
        for (const each of steps) {
          if ('add' in each) {
            const taker = new Taker(`${present.length}`, each.add, each.credit)
            present.push(taker)
            consumers.add(taker, each.add)
          } else if ('remove' in each && present.length > 0) {
            const [taker] = present.splice(each.remove % present.length, 1)
            expect(consumers.remove(taker!)).toBe(true)
          } else if ('refill' in each && present.length > 0) {
            present[each.refill % present.length]!.credit = 3
          } else if ('pick' in each) {
            const able = present.filter(taker => taker.hasCredit())
            const best = Math.max(...able.map(({ priority }) => priority))
            const expected = able.filter(({ priority }) => priority === best)
            // As many picks as there are candidates: everybody gets one.
            const picked = expected.map(() => {
              const taker = consumers.pick()
              consumers.passTurn()
              return taker
            })
            expect(new Set(picked)).toEqual(new Set(expected))
            if (expected.length === 0) expect(consumers.pick()).toBeNull()
            for (const taker of expected) taker.credit--
          }
        }
        expect(new Set(consumers.list)).toEqual(new Set(present))
      }),
      { numRuns: 300 }
    )
  })
})

describe('consumers that leave together', () => {
  const takers = (priorities: readonly number[]) =>
    priorities.map((priority, i) => new Taker(String.fromCharCode(97 + i), priority, 2))

  it('leave the others as if each had gone by itself', () => {
    const priority = fc.integer({ min: 0, max: 2 })
    const list = fc.array(priority, { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(list, fc.nat(255), fc.nat(9), fc.boolean(), (priorities, mask, turns, isOne) => {
        const [together, apart] = [0, 1].map(() => {
          const those = takers(isOne ? priorities.map(() => 0) : priorities)
          const consumers = entered(...those)
          picks(consumers, turns)
          return { consumers, gone: those.filter((_, i) => ((mask >> i) & 1) === 1) }
        })
        expect(together!.consumers.removeAll(new Set(together!.gone))).toBe(together!.gone.length)
        for (const each of apart!.gone) apart!.consumers.remove(each)
        const names = ({ list: left }: Consumers) => left.map(each => (each as Taker).name)
        expect(names(together!.consumers)).toEqual(names(apart!.consumers))
        // One that comes after them finds its place.
        for (const { consumers } of [together!, apart!]) consumers.add(new Taker('z', 1, 2), 1)
        expect(picks(together!.consumers, 20)).toBe(picks(apart!.consumers, 20))
      }),
      { numRuns: 500 }
    )
  })

  it('hand over to the next that stays, where one alone is active', () => {
    const consumers = new Consumers(
      {} as Broker,
      { options: { hasSingleActiveConsumer: true } } as Queue,
      null,
      () => {}
    )
    const those = takers([0, 0, 5, 1, 0])
    for (const taker of those) consumers.add(taker, taker.priority)
    const [a, b, c, d, e] = those
    expect(consumers.removeAll(new Set([b!, a!, c!]))).toBe(3)
    expect([consumers.active, consumers.list]).toEqual([d, [d, e]])
    expect(consumers.removeAll(new Set([e!]))).toBe(1)
    expect(consumers.active).toBe(d)
    expect(consumers.removeAll(new Set([d!]))).toBe(1)
    expect([consumers.active, consumers.list]).toEqual([null, []])
    consumers.add(a!, 0)
    expect(consumers.active).toBe(a)
  })

  it('of one connection are looked for once in each queue', async () => {
    const rig = await openRig()
    onTestFinished(() => rig.close())
    const fields = { durable: false, autoDelete: true }
    const queues = ['q', 'r'].map(name => declaredQueue(rig, name, fields))
    const gone = Array.from({ length: 40 }, (_, i) =>
      Object.assign(new Taker(`${i}`, 0, 0), { queue: queues[i % 2]! })
    )
    for (const each of gone) {
      consume(rig.broker, each.queue, each, { exclusive: false, priority: 0 })
    }
    let looks = 0
    const one = Consumers.prototype.remove
    const many = Consumers.prototype.removeAll
    onTestFinished(() => {
      Object.assign(Consumers.prototype, { remove: one, removeAll: many })
    })
    Consumers.prototype.remove = function (this: Consumers, consumer) {
      looks++
      return one.call(this, consumer)
    }
    Consumers.prototype.removeAll = function (this: Consumers, all) {
      looks++
      return many.call(this, all)
    }
    cancelAll(rig.broker, gone)
    // Both were auto-delete: they went with their last consumer.
    expect([looks, queues.map(queue => queue.isDeleted)]).toEqual([2, [true, true]])
  })
})

describe('very many consumers', () => {
  it('without credit are asked once, until one of them has some again', async () => {
    const rig = await openRig()
    onTestFinished(() => rig.close())
    const queue = declaredQueue(rig, 'q', { durable: false })
    let asked = 0
    class Counted extends Worker {
      override hasCredit(): boolean {
        asked++
        return super.hasCredit()
      }
    }
    const workers = Array.from({ length: 1_200 }, () => new Counted(0))
    for (const each of workers) {
      consume(rig.broker, queue, each, { exclusive: false, priority: 0 })
    }
    await turns()
    const publisher = new Backend(rig)
    const publish = (): void => {
      const message = messageOf('q', 'x')
      message.form = FORM_AMQP
      publishTo(rig.broker, rig.vhost.exchanges.get('')!, message, publisher)
    }
    publish()
    expect(asked).toBe(workers.length)
    for (let i = 0; i < 50; i++) publish()
    expect(asked).toBe(workers.length)
    for (const i of [700, 3, 1_199]) {
      workers[i]!.credit = 1
      ready(rig.broker, queue)
    }
    expect(workers.flatMap(({ got }, i) => (got.length > 0 ? [i] : []))).toEqual([3, 700, 1_199])
    const newcomer = new Worker(10)
    consume(rig.broker, queue, newcomer, { exclusive: false, priority: 0 })
    await turns()
    expect(newcomer.got.length).toBe(10)
    expect(queue.readyCount).toBe(51 - 3 - 10)
  })
})
