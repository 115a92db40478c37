/** Which right each method asks for, and that it is asked before anything is said about what exists. */
import { beforeEach, describe, expect, it } from 'vitest'
import {
  type ArgumentsOf,
  BASIC,
  CHANNEL,
  EXCHANGE,
  type Method,
  QUEUE,
  type Shape
} from '../../src/amqp/codec/methods.ts'
import type { Credentials } from '../../src/auth/authenticator.ts'
import type { ResourceAccess } from '../../src/core/permissions.ts'
import { Principal } from '../../src/core/principal.ts'
import type { AmqpGateway } from '../support/amqp-gateway.ts'
import {
  BIND_VALUES,
  CONSUME_VALUES,
  channelClosed,
  DELETE_VALUES,
  declareQueue,
  EXCHANGE_VALUES,
  nothingMore,
  QUEUE_VALUES,
  startAmqp
} from '../support/amqp-moves.ts'
import type { RawAmqp } from '../support/raw-amqp.ts'

const RIGHTS = ['configure', 'write', 'read'] as const
const BETWEEN = {
  reserved: 0,
  destination: 'e',
  source: 'amq.fanout',
  routingKey: '',
  noWait: false,
  arguments: []
}
const { noWait: _noWait, ...UNBIND_VALUES } = BIND_VALUES

interface Operation {
  readonly what: string
  readonly method: Method
  readonly values: ArgumentsOf<Shape>
  /** What stands for an answer; null: there is none. */
  readonly answer: Method | null
  readonly needs: Partial<Record<ResourceAccess, string>>
}

const OPERATIONS: readonly Operation[] = [
  {
    what: 'queue.declare',
    method: QUEUE.declare,
    values: QUEUE_VALUES,
    answer: QUEUE.declareOk,
    needs: { configure: "queue 'q'" }
  },
  {
    what: 'a passive queue.declare',
    method: QUEUE.declare,
    values: { ...QUEUE_VALUES, passive: true },
    answer: QUEUE.declareOk,
    needs: {}
  },
  {
    what: 'queue.purge',
    method: QUEUE.purge,
    values: { reserved: 0, queue: 'q', noWait: false },
    answer: QUEUE.purgeOk,
    needs: { read: "queue 'q'" }
  },
  {
    what: 'queue.bind',
    method: QUEUE.bind,
    values: BIND_VALUES,
    answer: QUEUE.bindOk,
    needs: { write: "queue 'q'", read: "exchange 'amq.direct'" }
  },
  {
    what: 'queue.unbind',
    method: QUEUE.unbind,
    values: UNBIND_VALUES,
    answer: QUEUE.unbindOk,
    needs: { write: "queue 'q'", read: "exchange 'amq.direct'" }
  },
  {
    what: 'queue.delete',
    method: QUEUE.delete,
    values: DELETE_VALUES,
    answer: QUEUE.deleteOk,
    needs: { configure: "queue 'q'" }
  },
  {
    what: 'exchange.declare',
    method: EXCHANGE.declare,
    values: EXCHANGE_VALUES,
    answer: EXCHANGE.declareOk,
    needs: { configure: "exchange 'e'" }
  },
  {
    what: 'exchange.bind',
    method: EXCHANGE.bind,
    values: BETWEEN,
    answer: EXCHANGE.bindOk,
    needs: { write: "exchange 'e'", read: "exchange 'amq.fanout'" }
  },
  {
    what: 'exchange.unbind',
    method: EXCHANGE.unbind,
    values: BETWEEN,
    answer: EXCHANGE.unbindOk,
    needs: { write: "exchange 'e'", read: "exchange 'amq.fanout'" }
  },
  {
    what: 'exchange.delete',
    method: EXCHANGE.delete,
    values: { reserved: 0, exchange: 'e', ifUnused: false, noWait: false },
    answer: EXCHANGE.deleteOk,
    needs: { configure: "exchange 'e'" }
  },
  {
    what: 'basic.get',
    method: BASIC.get,
    values: { reserved: 0, queue: 'q', noAck: true },
    answer: BASIC.getEmpty,
    needs: { read: "queue 'q'" }
  },
  {
    what: 'basic.consume',
    method: BASIC.consume,
    values: CONSUME_VALUES,
    answer: BASIC.consumeOk,
    needs: { read: "queue 'q'" }
  }
]

let gateway: AmqpGateway
let client: RawAmqp

beforeEach(async () => {
  ;({ gateway, client } = await startAmqp())
})

/** A user with all rights but one. */
async function without(missing: ResourceAccess | null): Promise<RawAmqp> {
  const rule = { vhost: '/', configure: '.*', write: '.*', read: '.*' }
  if (missing !== null) rule[missing] = ''
  gateway.amqp.authenticator.authenticate = ({ vhost }: Credentials) =>
    Promise.resolve({ ok: true, principal: new Principal('u', [], vhost, [rule], [], false) })
  return await gateway.connect()
}

function refusal(access: ResourceAccess, what: string): string {
  return `ACCESS_REFUSED - ${access} access to ${what} in vhost '/' refused for user 'u'`
}

describe('R21 R12 403: the rights that a method asks for', () => {
  it.each(OPERATIONS)('$what', async ({ method, values, answer, needs }) => {
    await declareQueue(client)
    await client.call(EXCHANGE.declare, EXCHANGE_VALUES, EXCHANGE.declareOk)
    for (const access of RIGHTS) {
      const user = await without(access)
      user.method(method, 1, values)
      const what = needs[access]
      if (what === undefined) {
        await user.expect(answer!)
        await declareQueue(client)
        await client.call(EXCHANGE.declare, EXCHANGE_VALUES, EXCHANGE.declareOk)
      } else await channelClosed(user, 403, method, refusal(access, what))
      user.destroy()
    }
    const user = await without(null)
    user.method(method, 1, values)
    await user.expect(answer!)
  })

  it('basic.publish', async () => {
    const writer = await without('read')
    writer.publish('amq.direct', 'k', 'x')
    await nothingMore(writer)
    const reader = await without('write')
    for (const exchange of ['amq.direct', 'none']) {
      reader.publish(exchange, 'k', 'x')
      await channelClosed(reader, 403, BASIC.publish, refusal('write', `exchange '${exchange}'`))
    }
  })

  it.each(OPERATIONS.filter(({ needs }) => Object.keys(needs).length > 0))(
    '$what says the same of what does not exist',
    async ({ method, values, needs }) => {
      for (const access of RIGHTS) {
        const what = needs[access]
        if (what === undefined) continue
        const user = await without(access)
        user.method(method, 1, values)
        const close = await user.expect(CHANNEL.close)
        expect(close.replyText).toBe(refusal(access, what))
      }
    }
  )
})
