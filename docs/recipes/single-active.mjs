// Two instances of a service run, one of them works. When it goes, the other takes over, in order.
import { connect } from 'amqplib'

const url = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672'
const connection = await connect(url)
const channel = await connection.createConfirmChannel()
await channel.assertQueue('meter', { durable: true, arguments: { 'x-single-active-consumer': true } })

const seen = []
let change
async function instance(name) {
  const own = await connect(url)
  const line = await own.createChannel()
  await line.prefetch(1)
  await line.consume('meter', reading => {
    if (reading === null) return
    seen.push([name, Number(reading.content)])
    line.ack(reading)
    change?.()
  })
  return line
}
const until = async count => {
  while (seen.length < count) await new Promise(resolve => (change = resolve))
}

const first = await instance('first')
const second = await instance('second')
for (let i = 0; i < 50; i++) channel.sendToQueue('meter', Buffer.from(String(i)), { persistent: true })
await until(50)
// What it has acknowledged has left with the channel's end.
await first.close()
for (let i = 50; i < 100; i++) channel.sendToQueue('meter', Buffer.from(String(i)), { persistent: true })
await until(100)

const byFirst = seen.filter(([name]) => name === 'first').length
console.log(`first: ${byFirst}, second: ${100 - byFirst}, in order: ${seen.every(([, value], i) => value === i)}`)
await second.close()
await channel.deleteQueue('meter')
for (const each of [first.connection, second.connection, connection]) await each.close()
if (byFirst !== 50 || !seen.every(([, value], i) => value === i)) process.exit(1)
