/**
 * What a restart makes of `redelivered`: after a stop in order it is said of what was delivered alone; after a kill
 * nobody knows, so it is said of all that waits, also later.
 */
import { type Channel, connect } from 'amqplib'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Program } from '../support/program.ts'

let program: Program

beforeEach(async () => {
  program = await Program.start({ listen: ['amqp://127.0.0.1:0'] })
})

afterEach(async () => {
  await program.remove()
})

async function withChannel<T>(use: (channel: Channel) => Promise<T>): Promise<T> {
  const connection = await connect(`amqp://guest:guest@127.0.0.1:${program.port('amqp')}`)
  connection.on('error', () => undefined)
  try {
    return await use(await connection.createChannel())
  } finally {
    await connection.close().catch(() => undefined)
  }
}

async function publish(queue: string, texts: readonly string[], priorityMax = 0): Promise<void> {
  const connection = await connect(`amqp://guest:guest@127.0.0.1:${program.port('amqp')}`)
  const channel = await connection.createConfirmChannel()
  const levels = priorityMax > 0 ? { maxPriority: priorityMax } : {}
  await channel.assertQueue(queue, { durable: true, ...levels })
  for (const text of texts) {
    channel.sendToQueue(queue, Buffer.from(text), { persistent: true, priority: Number(text[1]) })
  }
  await channel.waitForConfirms()
  await connection.close()
}

/** Gets so many, `!` for redelivered; they go back at the end. */
function look(queue: string, count: number): Promise<string[]> {
  return withChannel(async channel => {
    const got: string[] = []
    for (let i = 0; i < count; i++) {
      const message = await channel.get(queue)
      if (message === false) throw new Error(`${queue} has only ${i}`)
      got.push(`${message.content}${message.fields.redelivered ? '!' : ''}`)
    }
    return got
  })
}

it('after a stop in order says it of what was delivered, over several of them', async () => {
  await publish('work', ['a0', 'b0', 'c0', 'd0'])
  await publish('levels', ['a0', 'b1', 'c2', 'd2'], 2)
  expect(await look('work', 1)).toEqual(['a0'])
  expect(await look('levels', 1)).toEqual(['c2'])
  await program.stop()
  await program.restart()
  await program.stop()
  await program.restart()
  expect(await look('work', 4)).toEqual(['a0!', 'b0', 'c0', 'd0'])
  expect(await look('levels', 4)).toEqual(['c2!', 'd2', 'b1', 'a0'])
})

it('says it of what was open when it stopped', async () => {
  await publish('work', ['a0', 'b0'])
  await withChannel(async channel => {
    await channel.prefetch(1)
    await new Promise<void>((resolve, reject) => {
      channel.consume('work', () => resolve()).catch(reject)
    })
    await program.stop()
  })
  await program.restart()
  expect(await look('work', 2)).toEqual(['a0!', 'b0'])
})

it('after a kill says it of all, and of the same after a later stop in order', async () => {
  await publish('work', ['a0', 'b0', 'c0'])
  await publish('levels', ['a0', 'b1'], 1)
  await program.stop()
  await program.restart()
  // Nothing is written by who only looks.
  await program.kill()
  await program.restart()
  await publish('work', ['d0'])
  await publish('levels', ['c1'], 1)
  await program.stop()
  await program.restart()
  expect(await look('work', 4)).toEqual(['a0!', 'b0!', 'c0!', 'd0'])
  expect(await look('levels', 3)).toEqual(['b1!', 'c1', 'a0!'])
})
