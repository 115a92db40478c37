/** At-least-once dead-lettering (RabbitMQ's x-dead-letter-strategy), over a real socket. */
import { expect, it } from 'vitest'
import { BASIC } from '../../src/amqp/codec/methods.ts'
import { declare, get, readyIn } from '../support/amqp-dead.ts'
import { nothingMoreLater, startAmqp } from '../support/amqp-moves.ts'

it('a rejected message waits until its dead letter queue has room, and keeps the reason of its death', async () => {
  const { gateway, client } = await startAmqp()
  await declare(client, 'd', { 'x-max-length': 1, 'x-overflow': 'reject-publish' })
  await declare(client, 'q', {
    'x-overflow': 'reject-publish',
    'x-dead-letter-strategy': 'at-least-once',
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': 'd'
  })
  for (const body of ['a', 'b']) {
    client.publish('', 'q', body)
    const { tag } = (await get(client, 'q', false))!
    client.method(BASIC.reject, 1, { deliveryTag: tag, requeue: false })
  }
  await nothingMoreLater(client)
  await gateway.passIn(30_000)
  expect([await readyIn(client, 'q'), await readyIn(client, 'd')]).toEqual([0, 1])
  expect((await get(client, 'd'))!.body).toBe('a')
  await gateway.passIn(5_001)
  await nothingMoreLater(client)
  expect(await get(client, 'd')).toMatchObject({ body: 'b', deaths: ['q rejected×1  q'] })
  expect(gateway.broker.counters.dropped.get('rejected')).toBe(0)
})
