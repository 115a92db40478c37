/** Messages that do not come whole: many channels hold no more of them than the limit says. */
import { describe, expect, it } from 'vitest'
import { CHANNEL } from '../../src/amqp/codec/methods.ts'

import { declareQueue, startAmqp } from '../support/amqp-moves.ts'
import { publishFrames, type RawAmqp } from '../support/raw-amqp.ts'

const MIB = 1024 * 1024
const LIMITS = { channelBytesMax: 8 * MIB }
/** With its key and its properties 1 MiB. */
const BODY = Buffer.alloc(MIB - 3, 'x')

const flow = (client: RawAmqp, channel: number) =>
  client.call(CHANNEL.flow, { active: true }, CHANNEL.flowOk, channel)

/** All frames of a message of 1 MiB but its last. */
function unfinished(channel: number): Buffer[] {
  return publishFrames('', 'q', BODY, { channel }).slice(0, -1)
}

async function refused(client: RawAmqp, channel: number, whose: string): Promise<void> {
  const { replyCode, replyText, classId, methodId } = await client.expect(CHANNEL.close, channel)
  const bytes = whose === 'one connection' ? 4 * MIB : 8 * MIB
  expect([replyCode, replyText, classId, methodId]).toEqual([
    406,
    `PRECONDITION_FAILED - the unfinished messages and transactions of ${whose} hold at most ${bytes} bytes`,
    60,
    40
  ])
  client.method(CHANNEL.closeOk, channel, {})
}

describe('unfinished messages', () => {
  it('of one connection, then of all, are bounded together, and give back what they held', async () => {
    const { gateway, client } = await startAmqp({ limits: LIMITS })
    const { whole } = gateway.amqp.channelRooms
    await declareQueue(client)
    for (const channel of [2, 3, 4, 5, 6]) await client.openChannel(channel)
    for (const channel of [2, 3, 4, 5]) client.send(...unfinished(channel))
    client.send(...unfinished(6))
    await refused(client, 6, 'one connection')
    const other = await gateway.connect()
    for (const channel of [2, 3, 4]) {
      await other.openChannel(channel)
      other.send(...unfinished(channel))
    }
    // A method that must not come now: the connection ends, and what it held is free.
    const third = await gateway.connect()
    third.send(...unfinished(1))
    await expect.poll(() => whole.bytes).toBe(8 * MIB)
    await third.openChannel(2)
    third.send(...unfinished(2))
    await refused(third, 2, 'all connections')
    third.destroy()
    await expect.poll(() => whole.bytes).toBe(7 * MIB)
    // The last frames: the messages are whole, and held no more.
    for (const channel of [2, 3, 4, 5]) {
      client.send(publishFrames('', 'q', BODY, { channel }).at(-1)!)
      await flow(client, channel)
    }
    expect(whole.bytes).toBe(3 * MIB)
    await client.openChannel(7)
    other.destroy()
    await expect.poll(() => whole.bytes).toBe(0)
    expect(gateway.broker.vhosts.get('/')!.queues.get('q')!.readyCount).toBe(4)
  })

  it('of a few bytes ask for no room', async () => {
    const { gateway, client } = await startAmqp({ limits: LIMITS })
    client.send(...publishFrames('', 'q', Buffer.alloc(3_000), { split: 2_000 }).slice(0, -1))
    await client.openChannel(2)
    expect(gateway.amqp.channelRooms.whole.bytes).toBe(0)
  })
})
