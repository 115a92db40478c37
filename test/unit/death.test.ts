/** The headers of dead letters: RabbitMQ 3.10 wrote the orders and types that stand here. */
import { describe, expect, it } from 'vitest'
import { type Death, isCycle, recordDeath } from '../../src/core/death.ts'
import { type FieldTable, type FieldValue, fieldOf } from '../../src/core/field-table.ts'
import { MessageProperties } from '../../src/core/properties.ts'

const DEATH: Death = {
  queue: 'q',
  reason: 'expired',
  exchange: 'e',
  keys: ['k', 'cc'],
  time: 1_700_000_000
}

function names(table: FieldTable): string {
  return table.map(([name, { type }]) => `${name}:${type}`).join(' ')
}

describe('the headers of a dead letter', () => {
  it('have the fields of the first death in RabbitMQ’s order, and theirs sorted', () => {
    const properties = new MessageProperties()
    properties.expiration = '30'
    properties.headers = [
      ['zz', { type: 'I', value: 1 }],
      ['aa', { type: 'S', value: 'x' }]
    ]
    const [first] = recordDeath(properties, DEATH)
    expect(names(first!)).toBe(
      'count:l reason:S queue:S time:T exchange:S routing-keys:A original-expiration:S'
    )
    expect(properties.expiration).toBeNull()
    expect(names(properties.headers)).toBe(
      'aa:S x-death:A x-first-death-exchange:S x-first-death-queue:S x-first-death-reason:S ' +
        'x-last-death-exchange:S x-last-death-queue:S x-last-death-reason:S zz:I'
    )
  })

  it('have those of later deaths sorted, the newest first, one for each queue and reason', () => {
    const properties = new MessageProperties()
    recordDeath(properties, { ...DEATH, reason: 'rejected' })
    recordDeath(properties, { ...DEATH, queue: 'r' })
    const deaths = recordDeath(properties, { ...DEATH, reason: 'rejected', time: 9, keys: [] })
    expect(deaths.map(names)).toEqual([
      'count:l exchange:S queue:S reason:S routing-keys:A time:T',
      'count:l exchange:S queue:S reason:S routing-keys:A time:T'
    ])
    const field = (at: number, name: string): FieldValue['value'] =>
      deaths[at]!.find(([key]) => key === name)![1].value
    expect([field(0, 'count'), field(0, 'queue'), field(0, 'time')]).toEqual([
      2n,
      'q',
      1_700_000_000n
    ])
    expect([field(1, 'count'), field(1, 'queue')]).toEqual([1n, 'r'])
  })

  it('count what a RabbitMQ before 3.5 wrote once for each death', () => {
    const legacy = (queue: string, random: string): FieldTable => [
      ['reason', { type: 'S', value: 'expired' }],
      ['queue', { type: 'S', value: queue }],
      ['random', { type: 'S', value: random }]
    ]
    const properties = new MessageProperties()
    const old = [legacy('a', '1'), legacy('b', '2'), legacy('a', '3'), legacy('a', '4')]
    properties.headers = [
      ['x-death', { type: 'A', value: old.map(value => ({ type: 'F', value })) }]
    ]
    const deaths = recordDeath(properties, { ...DEATH, queue: 'b' })
    const line = (table: FieldTable): string =>
      ['queue', 'count', 'random'].map(name => fieldOf(table, name)?.value).join(' ')
    expect(deaths.map(line)).toEqual(['b 2 2', 'a 3 1'])
  })

  it('forget what is older than a hundred deaths', () => {
    const properties = new MessageProperties()
    let count = 0
    for (let i = 0; i < 150; i++)
      count = recordDeath(properties, { ...DEATH, queue: `q${i}` }).length
    expect(count).toBe(100)
  })
})

describe('a cycle', () => {
  it('is a queue in which the message died before, unless somebody rejected it since', () => {
    const properties = new MessageProperties()
    let deaths = recordDeath(properties, DEATH)
    expect([isCycle(deaths, 'q'), isCycle(deaths, 'r')]).toEqual([true, false])
    deaths = recordDeath(properties, { ...DEATH, queue: 'r', reason: 'rejected' })
    expect([isCycle(deaths, 'q'), isCycle(deaths, 'r')]).toEqual([false, false])
    deaths = recordDeath(properties, { ...DEATH, queue: 's', reason: 'maxlen' })
    expect([isCycle(deaths, 's'), isCycle(deaths, 'r'), isCycle(deaths, 'q')]).toEqual([
      true,
      false,
      false
    ])
  })
})
