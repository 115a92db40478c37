import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { bindQueue } from '../../src/broker/bindings.ts'
import {
  type DeclareExchange,
  declareExchange,
  deleteExchange
} from '../../src/broker/exchanges.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import type { FieldTable } from '../../src/core/field-table.ts'
import { Backend, openRig, type Rig } from '../support/broker-rig.ts'
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
  declareQueue(rig.broker, rig.vhost, {
    name,
    passive: false,
    durable: true,
    exclusive: false,
    autoDelete: false,
    arguments: [],
    principal: null,
    owner: null
  })
  const rest = { arguments: table, principal: null, owner: null }
  bindQueue(rig.broker, rig.vhost, { queue: name, exchange: from, key, ...rest })
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
