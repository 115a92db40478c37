/**
 * Very many queues: declared over one AMQP connection, each used, then idle; and a restart with all of them.
 * From the project's root: node test/bench/queues.mjs [queues]
 * Needs Linux and a built project. MB is 1,048,576 bytes.
 */
import { AmqpConsumer, long, method, short } from './amqp.mjs'
import { Broker, count, MB, met, restingRss, table, until } from './broker.mjs'

const QUEUES = Number(process.argv[2] ?? 100_000)
const PAYLOAD = Buffer.alloc(100, 'x')
/** Requests that are sent together. */
const BATCH = 1_000
const KIB_GOAL = 2
const RESTART_GOAL_SECONDS = 10

const DECLARE_OK = (50 << 16) | 11
const CONSUME_OK = (60 << 16) | 21
const CANCEL_OK = (60 << 16) | 31
const GET_OK = (60 << 16) | 71
const ACK = (60 << 16) | 80
const NO_BYTES = Buffer.alloc(0)
const RESERVED = Buffer.alloc(2)

const nameOf = i => short(`work.queue.${i}`)

/** Sends batches and waits for what answers them. */
class Client {
  constructor(port) {
    this.consumer = new AmqpConsumer(port)
    this.seen = new Map()
    this.published = 0
    this.confirmed = 0
    this.consumer.onMethod = (id, buffer, at) => {
      this.seen.set(id, (this.seen.get(id) ?? 0) + 1)
      if (id === ACK) this.confirmed = Number(buffer.readBigUInt64BE(at))
    }
  }

  async open() {
    await this.consumer.open()
    this.write(method(1, 85, 10, Buffer.from([0])))
    await until(() => (this.seen.get((85 << 16) | 11) ?? 0) > 0, 'confirm.select-ok')
    return this
  }

  write(bytes) {
    this.consumer.socket.write(bytes)
  }

  /** One request a queue, `BATCH` of them together; `answer` is the method that answers each. */
  async each(answer, request, after = NO_BYTES) {
    for (let i = 0; i < QUEUES; ) {
      const parts = []
      const end = Math.min(QUEUES, i + BATCH)
      const wanted = (this.seen.get(answer) ?? 0) + end - i
      for (; i < end; i++) parts.push(request(i))
      this.write(Buffer.concat(parts))
      await until(() => (this.seen.get(answer) ?? 0) >= wanted, 'answers')
      if (after.length > 0) this.write(after)
    }
  }

  declare() {
    return this.each(DECLARE_OK, i =>
      method(1, 50, 10, RESERVED, nameOf(i), Buffer.from([2]), long(0))
    )
  }

  async publish() {
    const header = Buffer.alloc(7 + 15 + 1)
    header[0] = 2
    header.writeUInt16BE(1, 1)
    header.writeUInt32BE(15, 3)
    header.writeUInt16BE(60, 7)
    header.writeBigUInt64BE(BigInt(PAYLOAD.length), 11)
    // The one property: delivery-mode 2.
    header.writeUInt16BE(0x1000, 19)
    header[21] = 2
    header[22] = 0xce
    const body = Buffer.alloc(7 + PAYLOAD.length + 1, PAYLOAD)
    body[0] = 3
    body.writeUInt16BE(1, 1)
    body.writeUInt32BE(PAYLOAD.length, 3)
    PAYLOAD.copy(body, 7)
    body[body.length - 1] = 0xce
    for (let i = 0; i < QUEUES; ) {
      const parts = []
      const end = Math.min(QUEUES, i + BATCH)
      for (; i < end; i++) {
        parts.push(
          method(1, 60, 40, RESERVED, short(''), nameOf(i), Buffer.from([0])),
          header,
          body
        )
        this.published++
      }
      this.write(Buffer.concat(parts))
      await until(() => this.confirmed >= this.published, 'confirms')
    }
  }

  /** Each takes its message by basic.get; all are acknowledged. */
  get() {
    const ackAll = method(1, 60, 80, Buffer.alloc(8), Buffer.from([1]))
    const get = i => method(1, 60, 70, RESERVED, nameOf(i), Buffer.from([0]))
    return this.each(GET_OK, get, ackAll)
  }

  /** A consumer a queue, each for as long as its message takes. */
  async consume() {
    const tag = i => short(`c${i}`)
    const received = this.consumer.received
    await this.each(CONSUME_OK, i =>
      method(1, 60, 20, RESERVED, nameOf(i), tag(i), Buffer.from([0]), long(0))
    )
    await until(() => this.consumer.received - received >= QUEUES, 'deliveries')
    await this.each(CANCEL_OK, i => method(1, 60, 30, tag(i), Buffer.from([0])))
  }

  close() {
    this.consumer.close()
  }
}

const broker = await new Broker().start()
const idle = await restingRss(broker)
const rows = [[`${count(QUEUES)} durable queues`, 'figure', 'goal', 'met']]

async function timed(name, work) {
  const cpu = broker.cpu()
  const began = performance.now()
  await work()
  const us = ((broker.cpu() - cpu) / QUEUES) * 1e6
  const seconds = (performance.now() - began) / 1_000
  rows.push([name, `${seconds.toFixed(2)} s, CPU ${us.toFixed(1)} µs each`, '', ''])
}

async function memory(name) {
  const kib = ((await restingRss(broker)) - idle) / QUEUES / 1_024
  rows.push([name, `${kib.toFixed(2)} KiB each`, `${KIB_GOAL} KiB`, met(kib <= KIB_GOAL)])
}

let client = await new Client(broker.ports['amqp']).open()
await timed('declared', () => client.declare())
await memory('memory above idle then')
await timed('a message published to each', () => client.publish())
await timed('each taken by basic.get and acknowledged', () => client.get())
await memory('memory above idle then')
await timed('published again', () => client.publish())
await timed('each consumed, acknowledged, cancelled', () => client.consume())
await memory('memory above idle then')
await timed('published a third time', () => client.publish())
client.close()
for (const signal of /** @type {const} */ (['SIGKILL', 'SIGTERM'])) {
  await broker.stop(signal)
  await broker.start()
  const seconds = broker.readyMs / 1_000
  const isMet = met(seconds <= RESTART_GOAL_SECONDS)
  rows.push([`ready again after ${signal}`, `${seconds.toFixed(2)} s`, '10.00 s', isMet])
  await memory('memory above idle then')
}
client = await new Client(broker.ports['amqp']).open()
await timed('each taken by basic.get and acknowledged', () => client.get())
await memory('memory above idle then')
const left = await broker.metric('motemq_messages_ready')
rows.push(['waiting then', count(left), '0', met(left === 0)])
rows.push(['data folder', `${(broker.diskBytes() / MB).toFixed(0)} MB`, '', ''])
client.close()
broker.cleanUp()
table(rows)
