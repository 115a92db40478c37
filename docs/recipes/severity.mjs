// Log lines go to who wants them: errors to the alarm, everything to the archive.
import { connect } from 'amqplib'

const connection = await connect(process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672')
const channel = await connection.createConfirmChannel()
await channel.assertExchange('logs', 'direct', { durable: true })
await channel.assertQueue('alarm', { durable: true })
await channel.assertQueue('archive', { durable: true })
await channel.bindQueue('alarm', 'logs', 'error')
for (const severity of ['error', 'warning', 'info']) {
  await channel.bindQueue('archive', 'logs', severity)
}

for (const [severity, line] of [
  ['info', 'started'],
  ['warning', 'the disk is half full'],
  ['error', 'the disk is full'],
  ['info', 'stopped'],
  // Nobody has bound this one: it goes nowhere, and `mandatory` says so.
  ['debug', 'x = 1']
]) {
  channel.publish('logs', severity, Buffer.from(line), { persistent: true, mandatory: true })
}
channel.on('return', line => console.log(`nobody wants: ${line.fields.routingKey}`))
await channel.waitForConfirms()

async function all(queue) {
  const lines = []
  for (let line = await channel.get(queue, { noAck: true }); line; line = await channel.get(queue, { noAck: true })) {
    lines.push(`${line.fields.routingKey}: ${line.content}`)
  }
  return lines
}
const alarm = await all('alarm')
const archive = await all('archive')
console.log(`alarm:\n  ${alarm.join('\n  ')}\narchive:\n  ${archive.join('\n  ')}`)
await channel.deleteQueue('alarm')
await channel.deleteQueue('archive')
await channel.deleteExchange('logs')
await connection.close()
if (alarm.length !== 1 || archive.length !== 4) process.exit(1)
