// Ten thousand orders come in one second; a worker does a thousand a second. Nothing is lost, nobody is refused.
import { connect } from 'amqplib'

const [orders = 10_000, rate = 1_000] = process.argv.slice(2).map(Number)
const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')

const shop = await connection.createConfirmChannel()
await shop.assertQueue('orders', { durable: true })
for (let i = 0; i < orders; i++) {
  const id = String(i)
  // `false`: more is buffered in this process than the socket takes. The broker's pace is then ours.
  if (!shop.sendToQueue('orders', Buffer.from(id), { persistent: true, messageId: id })) {
    await new Promise(resolve => shop.once('drain', resolve))
  }
}
await shop.waitForConfirms()
console.log(`${orders} orders are on the broker's disk`)

const worker = await connection.createChannel()
// At most so many are in this process; the rest waits in the queue.
await worker.prefetch(50)
const done = new Set()
const begin = performance.now()
const { finished, finish } = once()
await worker.consume('orders', async order => {
  // Not before its time: `done.size / rate` seconds after the first.
  const wait = begin + (done.size / rate) * 1_000 - performance.now()
  if (wait > 0) await new Promise(resolve => setTimeout(resolve, wait))
  done.add(String(order.content))
  worker.ack(order)
  if (done.size === orders) finish()
})
await finished
console.log(`${done.size} orders are done, each of them once`)
await worker.close()
await shop.deleteQueue('orders')
await connection.close()

function once() {
  let finish
  const finished = new Promise(resolve => (finish = resolve))
  return { finished, finish }
}
