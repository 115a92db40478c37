// What no queue wants is not lost: it comes into a queue that somebody looks at.
import { connect } from 'amqplib'

const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')
const channel = await connection.createConfirmChannel()
await channel.assertExchange('lost', 'fanout', { durable: true })
await channel.assertQueue('look-at-this', { durable: true })
await channel.bindQueue('look-at-this', 'lost', '')
await channel.assertExchange('shop', 'topic', { durable: true, alternateExchange: 'lost' })
await channel.assertQueue('orders', { durable: true })
await channel.bindQueue('orders', 'shop', 'order.*')

channel.publish('shop', 'order.new', Buffer.from('a good one'), { persistent: true })
// A version of the sender that nobody has told the others about.
channel.publish('shop', 'ordr.new', Buffer.from('a misspelt one'), { persistent: true })
await channel.waitForConfirms()

const good = await channel.get('orders', { noAck: true })
const lost = await channel.get('look-at-this', { noAck: true })
console.log(`orders: ${good.content}`)
console.log(`look-at-this: ${lost.content} (${lost.fields.exchange}, ${lost.fields.routingKey})`)
await channel.deleteQueue('orders')
await channel.deleteQueue('look-at-this')
await channel.deleteExchange('shop')
await channel.deleteExchange('lost')
await connection.close()
