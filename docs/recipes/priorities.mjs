// A queue is full of reports when an alarm comes: the alarm goes first.
import { connect } from 'amqplib'

const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')
const channel = await connection.createConfirmChannel()
await channel.assertQueue('jobs', { durable: true, maxPriority: 3 })
const add = (job, priority) => channel.sendToQueue('jobs', Buffer.from(job), { persistent: true, priority })

for (let i = 0; i < 1_000; i++) add(`report ${i}`, 0)
await channel.waitForConfirms()

const order = []
let finish
const finished = new Promise(resolve => (finish = resolve))
const worker = await connection.createChannel()
// What a worker was sent is out of the queue's hands: a small prefetch keeps the choice there.
await worker.prefetch(1)
await worker.consume('jobs', async job => {
  order.push(String(job.content))
  if (order.length === 100) {
    add('ordinary mail', 1)
    add('alarm', 3)
    await channel.waitForConfirms()
  }
  worker.ack(job)
  if (order.length === 1_002) finish()
})
await finished
const alarm = order.indexOf('alarm')
const mail = order.indexOf('ordinary mail')
console.log(`100 reports were done when the alarm came; it was number ${alarm + 1}, the mail ${mail + 1}`)
await worker.close()
await channel.deleteQueue('jobs')
await connection.close()
if (alarm < 100 || alarm > 101 || mail !== alarm + 1) process.exit(1)
