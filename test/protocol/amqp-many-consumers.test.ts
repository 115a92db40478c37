/** More than a thousand consumers of one queue, each with a prefetch of 1: whoever acknowledges gets the next. */
import { expect, it } from 'vitest'
import { BASIC, CHANNEL, encodeMethod } from '../../src/amqp/codec/methods.ts'
import { CONSUME_VALUES, declareQueue, startAmqp } from '../support/amqp-moves.ts'
import { publishFrames, type RawAmqp } from '../support/raw-amqp.ts'

const CONSUMERS = 1_100
const MESSAGES = 3_000

/** The deliveries that are on their way, by tag. */
async function deliveries(client: RawAmqp, count: number): Promise<string[]> {
  const tags: string[] = []
  while (tags.length < count) {
    const { values } = await client.content(BASIC.deliver)
    tags.push(values.consumerTag)
  }
  return tags
}

it('acknowledged one by one, in groups and not at all by some, all are delivered once', async () => {
  const { gateway, client } = await startAmqp()
  await declareQueue(client)
  const qos = { prefetchSize: 0, prefetchCount: 1, global: false }
  await client.call(BASIC.qos, qos, BASIC.qosOk)
  const consumes = Array.from({ length: CONSUMERS }, (_, i) =>
    encodeMethod(BASIC.consume, 1, { ...CONSUME_VALUES, consumerTag: `c${i}`, noWait: true })
  )
  client.send(...consumes)
  const publisher = await gateway.connect()
  publisher.send(
    ...Array(MESSAGES)
      .fill(publishFrames('', 'q', Buffer.from('x')))
      .flat()
  )
  await publisher.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk)
  let tags = await deliveries(client, CONSUMERS)
  expect(new Set(tags).size).toBe(CONSUMERS)
  let tag = 0
  let delivered = CONSUMERS
  // Ten a time: their consumers, and nobody else, get the next ones.
  for (let round = 0; round < 40; round++) {
    const mine = tags.splice(0, 10)
    const acks = mine.map(() => encodeMethod(BASIC.ack, 1, { deliveryTag: ++tag, multiple: false }))
    client.send(...acks)
    const next = await deliveries(client, 10)
    expect(new Set(next)).toEqual(new Set(mine))
    tags = [...tags, ...next]
    delivered += 10
  }
  while (delivered < MESSAGES) {
    const count = Math.min(tags.length, MESSAGES - delivered)
    tag += count
    client.method(BASIC.ack, 1, { deliveryTag: tag, multiple: true })
    await deliveries(client, count)
    delivered += count
  }
  const queue = gateway.broker.vhosts.get('/')!.queues.get('q')!
  expect([queue.readyCount, queue.unackedCount]).toEqual([0, CONSUMERS])
})
