// An order that nobody pays in time is cancelled: by the expiry of a queue and a dead letter, and by a delayed message.
import { connect } from 'amqplib'

const [minutes = 15] = process.argv.slice(2).map(Number)
const ms = Math.round(minutes * 60_000)
const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')
const channel = await connection.createConfirmChannel()
await channel.assertQueue('overdue', { durable: true })

// One: orders wait in a queue that nobody reads. What has expired there leaves for `overdue`.
await channel.assertQueue('unpaid', {
  durable: true,
  messageTtl: ms,
  deadLetterExchange: '',
  deadLetterRoutingKey: 'overdue'
})

// Two: an exchange that holds each message back for as long as its header says.
await channel.assertExchange('later', 'x-delayed-message', {
  durable: true,
  arguments: { 'x-delayed-type': 'direct' }
})
await channel.bindQueue('overdue', 'later', 'overdue')

channel.sendToQueue('unpaid', Buffer.from('order 1'), { persistent: true })
channel.publish('later', 'overdue', Buffer.from('order 2'), {
  persistent: true,
  headers: { 'x-delay': ms }
})
await channel.waitForConfirms()
const placed = performance.now()

const paid = new Set()
const cancelled = []
let finish
const finished = new Promise(resolve => (finish = resolve))
const { consumerTag } = await channel.consume('overdue', order => {
  const name = String(order.content)
  // It may have been paid meanwhile: that is looked up when it is due, not taken out of the queue before.
  if (!paid.has(name)) cancelled.push(name)
  const [death] = order.properties.headers['x-death'] ?? []
  console.log(`${name}: ${death ? `${death.reason} in ${death.queue}` : 'its delay is over'}`)
  channel.ack(order)
  if (cancelled.length === 2) finish()
})
await finished
const waited = performance.now() - placed
await channel.cancel(consumerTag)
await channel.deleteQueue('unpaid')
await channel.deleteQueue('overdue')
await channel.deleteExchange('later')
await connection.close()
if (waited < ms - 50) throw new Error(`cancelled after ${waited} ms`)
