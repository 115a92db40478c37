// One message kills its worker each time. After three attempts it is put aside, and the others go on.
import { connect } from 'amqplib'

const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')
const channel = await connection.createConfirmChannel()
await channel.assertQueue('aside', { durable: true })
await channel.assertQueue('tasks', {
  durable: true,
  deadLetterExchange: '',
  deadLetterRoutingKey: 'aside',
  // The first delivery, and two more.
  arguments: { 'x-delivery-limit': 2, 'x-delayed-retry-min': 20 }
})
for (const task of ['good 1', 'poison', 'good 2']) {
  channel.sendToQueue('tasks', Buffer.from(task), { persistent: true })
}
await channel.waitForConfirms()

const done = []
let attempts = 0
let finish
const finished = new Promise(resolve => (finish = resolve))
async function worker() {
  const own = await connection.createChannel()
  own.on('error', () => undefined)
  await own.prefetch(1)
  await own.consume('tasks', task => {
    if (task === null) return
    if (String(task.content) === 'poison') {
      attempts++
      // It dies with the task in its hands: the broker counts, and holds it back for 20 ms, then 40 ms.
      working = own.close().then(worker)
      return
    }
    done.push(String(task.content))
    own.ack(task)
    if (done.length === 2) finish()
  })
}
let working = worker()
await finished

let aside
while (!(aside = await channel.get('aside', { noAck: true }))) await new Promise(resolve => setTimeout(resolve, 10))
const [death] = aside.properties.headers['x-death']
console.log(`${done.join(', ')} are done; ${aside.content} is aside after ${attempts} attempts (${death.reason})`)
await working
await channel.deleteQueue('tasks')
await channel.deleteQueue('aside')
await connection.close()
if (attempts !== 3 || death.reason !== 'delivery_limit') process.exit(1)
