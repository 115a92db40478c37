// A service is down for its update. Who sends to it does not notice; when it is back, it has everything, in order.
import { connect } from 'amqplib'

const url = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672'
const got = []

async function service(wanted) {
  const connection = await connect(url)
  const channel = await connection.createChannel()
  // Whoever comes first declares it; the other finds it as it is.
  await channel.assertQueue('mail', { durable: true })
  await channel.prefetch(10)
  let last
  const { consumerTag } = await channel.consume('mail', async letter => {
    got.push(String(letter.content))
    channel.ack(letter)
    if (got.length === wanted) last()
  })
  if (got.length < wanted) await new Promise(resolve => (last = resolve))
  await channel.cancel(consumerTag)
  // Closing waits until the last acknowledgement has left.
  await connection.close()
}

const connection = await connect(url)
const sender = await connection.createConfirmChannel()
await sender.assertQueue('mail', { durable: true })
const send = letter => sender.sendToQueue('mail', Buffer.from(letter), { persistent: true })

for (let i = 0; i < 100; i++) send(`letter ${i}`)
await sender.waitForConfirms()
await service(100)
console.log('100 letters came; the service goes down')

for (let i = 100; i < 300; i++) send(`letter ${i}`)
await sender.waitForConfirms()
console.log('200 more were sent and confirmed meanwhile')

await service(300)
for (const [i, letter] of got.entries()) {
  if (letter !== `letter ${i}`) throw new Error(`${letter} came as number ${i}`)
}
console.log('the service is back and has all 300, in order')
await sender.deleteQueue('mail')
await connection.close()
