import { describe, expect, it } from 'vitest'
import { type ChannelConsumer, Holders } from '../../src/amqp/holders.ts'
import { EMPTY_TABLE } from '../../src/core/field-table.ts'
import { Queue } from '../../src/core/queue.ts'
import { queueOptions } from '../../src/core/queue-options.ts'

const OPTIONS = queueOptions(
  { isDurable: true, isExclusive: false, isAutoDelete: false, isConfigured: false },
  EMPTY_TABLE
)
const consumer = {} as ChannelConsumer
const queue = (id: number) => new Queue(id, `q${id}`, '/', OPTIONS, false)

describe('who took what is open on a channel', () => {
  it('has an index of its own, which is free again when it is gone and nothing of it is open', () => {
    const holders = new Holders()
    const first = holders.add(queue(1), consumer)
    const second = holders.add(queue(1), consumer)
    expect([first.index, second.index]).toEqual([0, 1])
    second.unackedCount = 1
    holders.forget(second)
    holders.forget(first)
    expect(holders.at(1)).toBe(second)
    expect(holders.add(queue(2), consumer).index).toBe(0)
    expect(holders.add(queue(2), consumer).index).toBe(2)
    second.unackedCount = 0
    holders.forget(second)
    expect(holders.add(queue(2), consumer).index).toBe(1)
  })

  it('is forgotten once: whoever has its index then keeps it', () => {
    const holders = new Holders()
    const gone = holders.add(queue(1), consumer)
    holders.forget(gone)
    const next = holders.add(queue(2), consumer)
    holders.forget(gone)
    expect(holders.at(next.index)).toBe(next)
    expect(holders.add(queue(3), consumer).index).toBe(1)
    expect([...holders]).toHaveLength(2)
  })

  it('is one for all that basic.get takes of a queue while some of it is open', () => {
    const holders = new Holders()
    const asked = queue(1)
    const holder = holders.ofGet(asked)
    expect(holders.ofGet(asked)).toBe(holder)
    expect(holders.ofGet(queue(2))).not.toBe(holder)
    expect(holders.add(asked, consumer)).not.toBe(holder)
    holders.forget(holder)
    expect(holders.ofGet(asked)).not.toBe(holder)
  })
})
