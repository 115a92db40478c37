// An order and the message about it: both or neither. The message is written with the order, and sent from there.
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'amqplib'

// The database: one file that is replaced as a whole. Any database with transactions will do.
const folder = mkdtempSync(join(tmpdir(), 'outbox-'))
const file = join(folder, 'shop.json')
const read = () => JSON.parse(readFileSync(file, 'utf8'))
function transaction(change) {
  const data = read()
  change(data)
  writeFileSync(`${file}.new`, JSON.stringify(data))
  renameSync(`${file}.new`, file)
}
writeFileSync(file, JSON.stringify({ orders: [], outbox: [] }))

const url = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672'

/** Sends what lies in the outbox, and takes out what was confirmed. Dies in the middle when told so. */
async function relay(diesAfter = Number.POSITIVE_INFINITY) {
  const connection = await connect(url)
  const channel = await connection.createConfirmChannel()
  await channel.assertQueue('shipping', { durable: true })
  for (const { id, order } of read().outbox) {
    channel.sendToQueue('shipping', Buffer.from(order), { persistent: true, messageId: id })
    await channel.waitForConfirms()
    // Here it may die: then this one is sent again, with the same id.
    if (diesAfter-- === 0) return connection.close()
    transaction(data => {
      data.outbox = data.outbox.filter(entry => entry.id !== id)
    })
  }
  await connection.close()
}

for (let i = 0; i < 20; i++) {
  transaction(data => {
    data.orders.push(`order ${i}`)
    data.outbox.push({ id: `shop-${i}`, order: `order ${i}` })
  })
}
await relay(7)
await relay()

const connection = await connect(url)
const channel = await connection.createChannel()
const shipped = new Map()
let deliveries = 0
for (let it = await channel.get('shipping'); it; it = await channel.get('shipping')) {
  deliveries++
  shipped.set(it.properties.messageId, String(it.content))
  channel.ack(it)
}
console.log(`${read().orders.length} orders, ${deliveries} messages, ${shipped.size} different ones`)
await channel.deleteQueue('shipping')
await connection.close()
rmSync(folder, { recursive: true })
if (shipped.size !== 20 || deliveries !== 21) process.exit(1)
