import { describe, expectTypeOf, it } from 'vitest'
import {
  type BrokerError,
  type BrokerOptions,
  createBroker,
  type EmbeddedBroker,
  type ErrorName,
  type ReceivedMessage
} from '../../src/index.ts'

describe('what a program that embeds Motemq sees', () => {
  const broker = createBroker({ data: 'data' })

  it('is made from a data folder, all else is optional', () => {
    expectTypeOf(createBroker).parameters.toEqualTypeOf<[BrokerOptions]>()
    expectTypeOf(broker).toEqualTypeOf<EmbeddedBroker>()
    // @ts-expect-error there is no broker without a data folder
    createBroker({})
    // @ts-expect-error a limit that does not exist
    createBroker({ data: 'data', limits: { retainedMaximum: 1 } })
    createBroker({ data: 'data', listeners: ['mqtt://127.0.0.1:0'], limits: { retainedMax: 5 } })
  })

  it('publishes texts and bytes, and says when they are durable', () => {
    expectTypeOf(broker.publish('a', 'b')).toEqualTypeOf<Promise<void>>()
    expectTypeOf(broker.publish('a', new Uint8Array(1), { qos: 2 })).toEqualTypeOf<Promise<void>>()
    // @ts-expect-error there are three levels of QoS
    void broker.publish('a', 'b', { qos: 3 })
  })

  it('hands messages to a handler and takes it back', () => {
    const stop = broker.subscribe('a/#', message => {
      expectTypeOf(message).toEqualTypeOf<ReceivedMessage>()
      expectTypeOf(message.payload).toEqualTypeOf<Buffer>()
      expectTypeOf(message.properties.userProperties).toEqualTypeOf<
        readonly (readonly [name: string, value: string])[] | undefined
      >()
    })
    expectTypeOf(stop).toEqualTypeOf<() => void>()
    // @ts-expect-error nothing is kept for a subscription of the process: QoS 2 would promise it
    broker.subscribe('a/#', () => undefined, { qos: 2 })
  })

  it('knows its events and what they carry', () => {
    broker.on('clientConnected', ({ clientId, protocol, peer, user }) => {
      expectTypeOf({ clientId, protocol, peer, user }).toEqualTypeOf<
        Record<'clientId' | 'protocol' | 'peer' | 'user', string>
      >()
    })
    // @ts-expect-error no such event
    broker.on('message', () => undefined)
  })

  it('has errors with a code of one list', () => {
    expectTypeOf<BrokerError['code']>().toEqualTypeOf<ErrorName>()
    expectTypeOf<'diskAlarm'>().toExtend<ErrorName>()
  })
})
