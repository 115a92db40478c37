/**
 * A disk that somebody else fills at once while many publish (O9): what they have on its way to the disk must not take
 * the reserve that settling and a start need.
 */
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { RawClient } from '../support/raw-client.ts'
import { requireSmallDisk, SmallDisk } from '../support/small-disk.ts'
import { openAmqp } from '../support/workload-amqp.ts'

const PUBLISHERS = 100
const WINDOW = 20
const BYTES = 8_000

let disk: SmallDisk
let program: Program
let publishers: RawClient[] = []

afterEach(async () => {
  for (const publisher of publishers) publisher.destroy()
  publishers = []
  await program?.remove()
  disk?.remove()
})

const wait = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

async function declare(): Promise<void> {
  const connection = await openAmqp(program.port('amqp'))
  const channel = await connection.createChannel()
  await channel.assertQueue('kept', { durable: true })
  await channel.bindQueue('kept', 'amq.topic', 'fill.#')
  await connection.close()
}

/** Takes and acknowledges all that is there; how many there were. */
async function drain(): Promise<number> {
  const connection = await openAmqp(program.port('amqp'))
  const channel = await connection.createChannel()
  let taken = 0
  for (;;) {
    const message = await channel.get('kept')
    if (message === false) break
    channel.ack(message)
    taken++
  }
  await connection.close()
  return taken
}

requireSmallDisk('ext4')('a disk of 32 MiB that is full at once', () => {
  it('can be started on, drained and used again, and nothing acknowledged is lost', async () => {
    disk = new SmallDisk('ext4', 32 * 1024 * 1024)
    program = await Program.start({ dataDir: join(disk.folder, 'data') })
    await declare()
    let acked = 0
    for (let number = 0; number < PUBLISHERS; number++) {
      const publisher = new RawClient({ clientId: `p${number}`, version: 4, clean: true })
      await publisher.connect(program.port('mqtt'))
      publishers.push(publisher)
    }
    const publish = (publisher: RawClient) => {
      publisher.publish('fill/x', Buffer.alloc(BYTES), {
        qos: 1,
        onSettled: () => {
          acked++
          publish(publisher)
        }
      })
    }
    for (const publisher of publishers) for (let i = 0; i < WINDOW; i++) publish(publisher)
    while (acked < 200) await wait(1)
    disk.fill()
    const red = async () => (await readMetrics(program)).sum('disk_level', { level: 'red' })
    await expect.poll(red, { timeout: 10_000 }).toBe(1)
    await wait(1_500)
    await program.kill()
    const promised = acked
    await program.restart()
    expect(await drain()).toBeGreaterThanOrEqual(promised)
    // An acknowledgement of a consumer is written at most 50 ms later.
    await wait(1_500)
    await program.kill()
    await program.restart()
    expect(await drain()).toBe(0)
    disk.free()
    await expect.poll(red, { timeout: 10_000 }).toBe(0)
    await program.stop()
  })
})
