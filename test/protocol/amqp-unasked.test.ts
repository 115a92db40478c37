/** Answers that nobody asked for, methods in the wrong place, and the one old method that is still asked. */
import { describe, expect, it } from 'vitest'
import {
  ACCESS,
  BASIC,
  CHANNEL,
  CONFIRM,
  CONNECTION,
  type Method,
  QUEUE,
  TX
} from '../../src/amqp/codec/methods.ts'
import { AmqpBadInputs, closesConnection } from '../support/amqp-bad-inputs.ts'
import { CONSUME_VALUES, declareQueue } from '../support/amqp-moves.ts'
import { rawFrame } from '../support/raw-amqp.ts'

/** Without arguments: nobody looks at them. */
function bare(method: Method, channel: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(method.id)
  return rawFrame(1, channel, payload)
}

const ids = ({ classId, methodId }: Method): string => `${classId}.${methodId}`

describe('on a channel', () => {
  it.each<[string, Method]>([
    ['channel.open-ok', CHANNEL.openOk],
    ['channel.flow-ok', CHANNEL.flowOk],
    ['channel.close-ok', CHANNEL.closeOk],
    ['queue.declare-ok', QUEUE.declareOk],
    ['basic.qos-ok', BASIC.qosOk],
    ['basic.cancel-ok', BASIC.cancelOk],
    ['basic.deliver', BASIC.deliver],
    ['basic.return', BASIC.return],
    ['basic.get-ok', BASIC.getOk],
    ['confirm.select-ok', CONFIRM.selectOk],
    ['tx.commit-ok', TX.commitOk],
    ['connection.close', CONNECTION.close]
  ])('%s, which nobody asked for, is 503', async (_what, method) => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.connect()
      client.send(bare(method, 1))
      const text = 'COMMAND_INVALID - unimplemented method'
      await closesConnection(client, [503, text, ids(method)])
    })
  })

  it('a cancel-ok to a cancel of ours is taken once, though none was asked for', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.connect()
      await declareQueue(client)
      await client.call(BASIC.consume, CONSUME_VALUES, BASIC.consumeOk)
      const values = { reserved: 0, queue: 'q', ifUnused: false, ifEmpty: false, noWait: true }
      client.method(QUEUE.delete, 1, values)
      await client.expect(BASIC.cancel)
      client.method(BASIC.cancelOk, 1, { consumerTag: 'c' })
      await client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
      client.method(BASIC.cancelOk, 1, { consumerTag: 'c' })
      const text = 'COMMAND_INVALID - unimplemented method'
      await closesConnection(client, [503, text, '60.31'])
    })
  })

  it('access.request is answered by a ticket, as old clients expect', async () => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(0, async () => {
      const client = await inputs.gateway.connect()
      const values = { realm: '/data', exclusive: false, passive: true, active: true }
      const rights = { write: true, read: true }
      const ok = await client.call(ACCESS.request, { ...values, ...rights }, ACCESS.requestOk)
      expect(ok.ticket).toBe(1)
    })
  })
})

describe('on channel 0 of an open connection', () => {
  it.each<[string, Method]>([
    ['connection.start-ok', CONNECTION.startOk],
    ['connection.secure-ok', CONNECTION.secureOk],
    ['connection.tune-ok', CONNECTION.tuneOk],
    ['connection.open', CONNECTION.open],
    ['connection.close-ok', CONNECTION.closeOk],
    ['connection.blocked', CONNECTION.blocked],
    ['connection.unblocked', CONNECTION.unblocked],
    ['channel.open', CHANNEL.open],
    ['basic.qos', BASIC.qos]
  ])('%s is 504', async (_what, method) => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.connect()
      client.send(bare(method, 0))
      const text = 'CHANNEL_ERROR - unexpected method in connection state running'
      await closesConnection(client, [504, text, ids(method)])
    })
  })

  it.each([
    [99, 540],
    [10, 503]
  ])('B100: an unknown method of class %i is %i', async (classId, code) => {
    const inputs = await AmqpBadInputs.start()
    await inputs.around(1, async () => {
      const client = await inputs.gateway.connect()
      client.send(rawFrame(1, 0, Buffer.from([0, classId, 0, 99])))
      await closesConnection(client, [
        code,
        new RegExp(`unknown method ${classId}.99$`),
        `${classId}.99`
      ])
    })
  })
})
