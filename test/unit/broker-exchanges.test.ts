import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { bindExchange } from '../../src/broker/bindings.ts'
import {
  type DeclareExchange,
  declareExchange,
  deleteExchange
} from '../../src/broker/exchanges.ts'
import { deleteQueue } from '../../src/broker/queues.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { Backend, openRig, type Rig } from '../support/broker-rig.ts'
import { bindTo, declaredQueue } from '../support/declared-queue.ts'
import { text } from '../support/routing.ts'

let rig: Rig

beforeEach(async () => {
  rig = await openRig()
})

afterEach(async () => {
  await rig.close()
})

function exchange(name: string, fields: Partial<DeclareExchange> = {}): void {
  declareExchange(rig.broker, rig.vhost, {
    name,
    kind: 'direct',
    passive: false,
    durable: true,
    autoDelete: false,
    internal: false,
    arguments: [],
    principal: null,
    ...fields
  })
}

function queue(name: string, from: string, key = '', table: FieldTable = []): void {
  declaredQueue(rig, name)
  bindTo(rig, name, from, key, table)
}

const ready = (name: string): number => rig.queue(name).readyCount

describe('an alternate exchange', () => {
  const alternate: FieldTable = [['alternate-exchange', text('ae')]]

  it('is there again after a restart, whichever of the two was declared first', async () => {
    exchange('before', { arguments: alternate })
    exchange('ae', { kind: 'fanout' })
    exchange('after', { arguments: alternate })
    queue('lost', 'ae')
    for (const again of [async () => rig, () => rig.crash(), () => rig.restart()]) {
      rig = await again()
      const backend = new Backend(rig)
      backend.publish('before', 'k', 'x')
      backend.publish('after', 'k', 'x')
      await rig.flush()
    }
    expect(ready('lost')).toBe(6)
  })

  it('of a policy is used where no argument names one, until the policy is gone', () => {
    exchange('ae', { kind: 'fanout' })
    exchange('other', { kind: 'fanout' })
    exchange('plain')
    exchange('named', { arguments: alternate })
    queue('lost', 'ae')
    queue('elsewhere', 'other')
    const { exchanges } = rig.vhost
    const backend = new Backend(rig)
    for (const name of ['plain', 'named']) {
      rig.vhost.setPolicyAlternate(exchanges.get(name)!, 'other')
      backend.publish(name, 'k', 'x')
    }
    expect([ready('lost'), ready('elsewhere')]).toEqual([1, 1])
    deleteExchange(rig.broker, rig.vhost, 'other', { ifUnused: false, principal: null })
    backend.publish('plain', 'k', 'x')
    exchange('other', { kind: 'fanout' })
    rig.vhost.setPolicyAlternate(exchanges.get('plain')!, null)
    expect(exchanges.get('plain')!.alternate).toBe(null)
    expect([ready('lost'), ready('elsewhere')]).toEqual([1, 1])
  })
})

describe('auto-delete exchanges', () => {
  const auto = (name: string, fields: Partial<DeclareExchange> = {}) =>
    exchange(name, { kind: 'fanout', durable: false, autoDelete: true, ...fields })

  function bindTo(target: string, source: string): void {
    const rest = { key: '', arguments: [], principal: null }
    bindExchange(rig.broker, rig.vhost, { destination: target, source, ...rest })
  }

  const remove = (name: string) =>
    deleteQueue(rig.broker, rig.vhost, name, {
      ifUnused: false,
      ifEmpty: false,
      principal: null,
      owner: null
    })

  it('in a chain of 20,000 all go with the queue at its end, and nothing that was never bound', () => {
    const count = 20_000
    const before = rig.vhost.exchanges.size
    for (let i = 0; i < count; i++) auto(`e${i}`, { durable: i === 7 })
    for (let i = 1; i < count; i++) bindTo(`e${i}`, `e${i - 1}`)
    auto('never bound')
    queue('q', `e${count - 1}`)
    remove('q')
    expect([rig.vhost.exchanges.size - before, rig.vhost.bindingCount]).toEqual([1, 0])
    expect(rig.vhost.exchanges.has('never bound')).toBe(true)
    expect([rig.vhost.unused.size, rig.vhost.bound.size]).toEqual([0, 0])
  })

  it('in a circle stay, since each of them has a binding', () => {
    for (const name of ['a', 'b']) auto(name)
    bindTo('a', 'b')
    bindTo('b', 'a')
    queue('q', 'a')
    remove('q')
    expect([rig.vhost.exchanges.has('a'), rig.vhost.exchanges.has('b')]).toEqual([true, true])
  })

  it('a queue that ends is looked for only in the exchanges that it is bound to', () => {
    const count = 300
    for (let i = 0; i < count; i++) exchange(`e${i}`, { durable: false })
    for (const name of ['q', 'r']) queue(name, 'e1')
    queue('q', 'e1', 'another key')
    queue('q', 'e2')
    let asked = 0
    for (const each of rig.vhost.exchanges.values()) {
      const unbindAll = each.unbindAll.bind(each)
      each.unbindAll = target => {
        asked++
        return unbindAll(target)
      }
    }
    remove('q')
    expect([asked, rig.vhost.bindingCount, rig.vhost.bound.size]).toEqual([2, 1, 1])
  })
})
