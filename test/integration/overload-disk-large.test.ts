/**
 * A disk that large messages fill (O9): each gets a file of its own, for which there is no reserve, and one that waits
 * for room would hold everything behind it.
 */
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { readMetrics } from '../support/metrics.ts'
import { Program } from '../support/program.ts'
import { RawClient } from '../support/raw-client.ts'
import { requireSmallDisk, SmallDisk } from '../support/small-disk.ts'
import { openAmqp } from '../support/workload-amqp.ts'

const COUNT = 12
const BYTES = 3 * 1024 * 1024

let disk: SmallDisk
let program: Program

afterEach(async () => {
  await program?.remove()
  disk?.remove()
})

const level = async (name: string) =>
  (await readMetrics(program)).sum('disk_level', { level: name })

const dropped = async () =>
  (await readMetrics(program)).sum('messages_dropped_total', { reason: 'disk_alarm' })

/** Takes and acknowledges all that is there; the first byte of each. */
async function drain(): Promise<number[]> {
  const connection = await openAmqp(program.port('amqp'))
  const channel = await connection.createChannel()
  const taken: number[] = []
  for (;;) {
    const message = await channel.get('kept')
    if (message === false) break
    taken.push(message.content[0]!)
    channel.ack(message)
  }
  await connection.close()
  return taken
}

requireSmallDisk('ext4')('a disk of 32 MiB that large messages fill', () => {
  it('takes what fits, tells or holds who sends more, can be drained, and goes on', async () => {
    disk = new SmallDisk('ext4', 32 * 1024 * 1024)
    program = await Program.start({ dataDir: join(disk.folder, 'data') })
    const connection = await openAmqp(program.port('amqp'))
    const channel = await connection.createConfirmChannel()
    await channel.assertQueue('kept', { durable: true })
    await channel.bindQueue('kept', 'amq.topic', 'large')
    const publish = (number: number, bytes: number) =>
      new Promise<boolean>(resolve => {
        const body = Buffer.alloc(bytes, number)
        channel.sendToQueue('kept', body, { persistent: true }, error => resolve(error === null))
      })
    const outcomes = await Promise.all(
      Array.from({ length: COUNT }, (_, number) => publish(number, BYTES))
    )
    const confirmed = outcomes.flatMap((isConfirmed, number) => (isConfirmed ? [number] : []))
    expect(confirmed.length).toBeGreaterThan(2)
    expect(confirmed.length).toBeLessThan(COUNT)
    expect(disk.freeBytes).toBeGreaterThan(0)
    expect(await dropped()).toBe(COUNT - confirmed.length)
    expect(await level('red')).toBe(0)
    expect(await publish(100, 1_000)).toBe(true)
    const five = new RawClient({ clientId: 'five', version: 5, clean: true })
    await five.connect(program.port('mqtt'))
    const large = Buffer.alloc(1_900_000, 101)
    const code = await new Promise(resolve => {
      five.publish('large', large, { qos: 1, onSettled: resolve })
    })
    expect(code).toBe(0x97)
    await five.end()
    const three = new RawClient({ clientId: 'three', version: 4, clean: true })
    await three.connect(program.port('mqtt'))
    let isAcked = false
    const onSettled = () => {
      isAcked = true
    }
    three.publish('large', large, { qos: 1, onSettled })
    await new Promise(resolve => setTimeout(resolve, 1_500))
    expect(isAcked).toBe(false)
    await program.kill()
    three.destroy()
    await program.restart()
    expect(await drain()).toEqual([...confirmed, 100])
    await three.connect(program.port('mqtt'))
    three.publish('large', large, { qos: 1, onSettled })
    await expect.poll(() => isAcked, { timeout: 20_000 }).toBe(true)
    await three.end()
    expect(await drain()).toEqual([101])
    await program.stop()
  })
})
