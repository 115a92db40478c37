// Deliveries may come twice; what they bring about happens once. Redis remembers what was done (SET ... NX).
import { createConnection } from 'node:net'
import { connect } from 'amqplib'

const url = new URL(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379')
const redis = createConnection(Number(url.port || 6379), url.hostname)
const waiting = []
let text = ''
redis.on('data', bytes => {
  text += bytes
  // The answers to SET: +OK, or $-1 when the key is there already.
  for (let end = text.indexOf('\r\n'); end >= 0; end = text.indexOf('\r\n')) {
    waiting.shift()(text.slice(0, end))
    text = text.slice(end + 2)
  }
})
/** True for who comes first. The key goes after a day: nothing comes twice after that. */
function isFirst(id) {
  const words = ['SET', `done:${id}`, '1', 'NX', 'EX', '86400']
  redis.write(`*${words.length}\r\n${words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`)
  return new Promise(resolve => waiting.push(answer => resolve(answer === '+OK')))
}

const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')
const channel = await connection.createConfirmChannel()
await channel.assertQueue('payments', { durable: true })
const run = Date.now()
for (let i = 0; i < 100; i++) {
  const payment = { persistent: true, messageId: `${run}-${i}` }
  channel.sendToQueue('payments', Buffer.from('1'), payment)
  // The sender saw no confirm for some, and sent them again: with the same id.
  if (i % 10 === 0) channel.sendToQueue('payments', Buffer.from('1'), payment)
}
await channel.waitForConfirms()

let balance = 0
let deliveries = 0
let finish
const finished = new Promise(resolve => (finish = resolve))
await channel.prefetch(10)
const { consumerTag } = await channel.consume('payments', async payment => {
  if (await isFirst(payment.properties.messageId)) balance += Number(payment.content)
  channel.ack(payment)
  if (++deliveries === 110) finish()
})
await finished
console.log(`${deliveries} deliveries, ${balance} payments`)
redis.end()
await channel.cancel(consumerTag)
await channel.deleteQueue('payments')
await connection.close()
if (balance !== 100) process.exit(1)
