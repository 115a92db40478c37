// A worker on a queue answers requests: of an AMQP client (direct reply-to), and of an MQTT 5 device.
import { connect } from 'amqplib'
import mqtt from 'mqtt'

const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')

// The worker does not see who asks how: it answers to `replyTo` with the `correlationId` it got.
const worker = await connection.createChannel()
await worker.assertQueue('squares', { durable: true })
await worker.bindQueue('squares', 'amq.topic', 'request.square')
await worker.prefetch(1)
await worker.consume('squares', request => {
  const { replyTo, correlationId } = request.properties
  const answer = String(Number(request.content) ** 2)
  worker.sendToQueue(replyTo, Buffer.from(answer), { correlationId })
  worker.ack(request)
})

// Over AMQP: no queue of our own, the answers come to this channel.
const client = await connection.createChannel()
const open = new Map()
await client.consume(
  'amq.rabbitmq.reply-to',
  answer => open.get(answer.properties.correlationId)?.(String(answer.content)),
  { noAck: true }
)
const ask = number =>
  new Promise(resolve => {
    const correlationId = `ask-${number}`
    open.set(correlationId, resolve)
    const options = { replyTo: 'amq.rabbitmq.reply-to', correlationId, expiration: '5000' }
    client.sendToQueue('squares', Buffer.from(String(number)), options)
  })
const answers = await Promise.all([1, 2, 3, 4].map(ask))
console.log(`AMQP: ${answers.join(' ')}`)

// Over MQTT 5: response topic and correlation data.
const device = mqtt.connect(process.env.MQTT_URL ?? 'mqtt://127.0.0.1:1883', { protocolVersion: 5 })
await device.subscribeAsync('answers/device-7', { qos: 1 })
const answered = new Promise(resolve => device.once('message', (_, payload, packet) => resolve([payload, packet])))
await device.publishAsync('request/square', '12', {
  qos: 1,
  properties: { responseTopic: 'answers/device-7', correlationData: Buffer.from('first') }
})
const [payload, packet] = await answered
console.log(`MQTT: ${payload} for ${packet.properties.correlationData}`)

await device.endAsync()
await worker.close()
await client.deleteQueue('squares')
await connection.close()
if (answers.join() !== '1,4,9,16' || String(payload) !== '144') process.exit(1)
