/** Traces that nobody listens to, and more of them in one turn than are gathered. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { bindQueue } from '../../src/broker/bindings.ts'
import { declareQueue } from '../../src/broker/queues.ts'
import { traceVhost } from '../../src/broker/vhosts.ts'
import { Backend, openRig, type Rig, turns } from '../support/broker-rig.ts'

let rig: Rig

class Named extends Backend {
  origin() {
    return { connection: 'here', channel: 1, user: 'guest' }
  }
}

beforeEach(async () => {
  rig = await openRig({})
  const rest = { arguments: [], principal: null, owner: null }
  const flags = { passive: false, durable: false, exclusive: false, autoDelete: false }
  declareQueue(rig.broker, rig.vhost, { name: 'traces', ...flags, ...rest })
})

afterEach(async () => {
  await rig.close()
})

function listen(): void {
  const rest = { arguments: [], principal: null, owner: null }
  bindQueue(rig.broker, rig.vhost, {
    queue: 'traces',
    exchange: 'amq.rabbitmq.trace',
    key: '#',
    ...rest
  })
}

it('makes no traces while nobody listens, and none of what the broker publishes itself', async () => {
  traceVhost(rig.broker, '/', true)
  new Named(rig).publish('', 'nope', 'x')
  await turns(2)
  listen()
  await turns(2)
  new Backend(rig).publish('', 'nope', 'x')
  await turns(2)
  expect(rig.queue('traces').readyCount).toBe(0)
  new Named(rig).publish('', 'nope', 'x')
  await turns(2)
  expect(rig.queue('traces').readyCount).toBe(1)
})

it('drops, counted, what is more than ten thousand in one turn', async () => {
  listen()
  traceVhost(rig.broker, '/', true)
  const backend = new Named(rig)
  for (let i = 0; i < 10_100; i++) backend.publish('', 'nope', 'x', false)
  await turns(4)
  expect(rig.queue('traces').readyCount).toBe(10_000)
  expect(rig.dropped('queue_full')).toBe(100)
})

it('ends with its virtual host, whatever is gathered', async () => {
  listen()
  traceVhost(rig.broker, '/', true)
  new Named(rig).publish('', 'nope', 'x')
  traceVhost(rig.broker, '/', false)
  await turns(2)
  expect(rig.queue('traces').readyCount).toBe(1)
  expect(() => traceVhost(rig.broker, 'none', true)).toThrow("no virtual host 'none'")
})
