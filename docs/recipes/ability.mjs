// A fast and a slow worker on one queue: with a prefetch of 1 each takes the next piece when it is free.
import { connect } from 'amqplib'

const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')
const boss = await connection.createConfirmChannel()
await boss.assertQueue('work', { durable: true })
const PIECES = 60
for (let i = 0; i < PIECES; i++) boss.sendToQueue('work', Buffer.from(String(i)), { persistent: true })
await boss.waitForConfirms()

const done = { fast: 0, slow: 0 }
let finish
const finished = new Promise(resolve => (finish = resolve))

async function worker(name, ms) {
  const channel = await connection.createChannel()
  await channel.prefetch(1)
  await channel.consume('work', async piece => {
    await new Promise(resolve => setTimeout(resolve, ms))
    channel.ack(piece)
    done[name]++
    if (done.fast + done.slow === PIECES) finish()
  })
  return channel
}

const workers = await Promise.all([worker('fast', 5), worker('slow', 100)])
await finished
for (const channel of workers) await channel.close()
console.log(`fast: ${done.fast}, slow: ${done.slow}`)
await boss.deleteQueue('work')
await connection.close()
if (done.fast <= done.slow) process.exit(1)
