/** The clients of `wear.mjs`: sensors that publish small readings, and whoever takes them. */
import { connect as openSocket } from 'node:net'
import { connect as openAmqp } from 'amqplib'
import { connectAsync } from 'mqtt'

/** 20 bytes, as a sensor would send them. */
const reading = number => `{"t":21.5,"n":${String(number % 100_000).padStart(5, '0')}}`

const text = value => {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes])
}

/** The packets here are shorter than 128 bytes. */
const packet = (first, ...parts) => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([first, body.length]), body])
}

const CONNACK = 0x20
const PUBACK = 0x40

/** One device: MQTT 3.1.1, clean session; what it hears is only counted. */
class Sensor {
  acknowledged = 0
  #socket = null
  #name = ''
  #count = 0

  async open(port, number) {
    this.#name = `sensor-${number}`
    const socket = openSocket({ port, host: '127.0.0.1', noDelay: true })
    this.#socket = socket
    const connect = packet(0x10, text('MQTT'), Buffer.from([4, 2, 0, 0]), text(this.#name))
    socket.write(connect)
    await new Promise((resolve, reject) => {
      socket.once('error', reject)
      socket.on('data', bytes => {
        // CONNACK and PUBACK both have four bytes and nothing else comes.
        for (let at = 0; at < bytes.length; at += 4) {
          if (bytes[at] === CONNACK) resolve()
          if (bytes[at] === PUBACK) this.acknowledged++
        }
      })
    })
  }

  publish(qos) {
    const number = ++this.#count
    const id = qos === 0 ? Buffer.alloc(0) : Buffer.from([(number >> 8) & 0xff, number & 0xff])
    const payload = Buffer.from(reading(number))
    this.#socket.write(
      packet(0x30 | (qos << 1), text(`sensors/${this.#name}/temperature`), id, payload)
    )
  }

  close() {
    this.#socket.destroy()
  }
}

/** `count` sensors that publish `perMinute` readings each, evenly spread, until `close`. */
export class Sensors {
  sent = 0
  #sensors = []
  #timer = null

  async open(port, count, perMinute, qos) {
    for (let number = 0; number < count; number++) {
      const sensor = new Sensor()
      await sensor.open(port, number)
      this.#sensors.push(sensor)
    }
    // Each sensor has its own moment in the minute: spread, but not at even distances.
    const perSensorMs = 60_000 / perMinute
    const dues = this.#sensors.map((_, number) => ((number * 7919) % 1000) * (perSensorMs / 1000))
    const start = performance.now()
    this.#timer = setInterval(() => {
      const now = performance.now() - start
      for (let number = 0; number < dues.length; number++) {
        if (dues[number] > now) continue
        dues[number] += perSensorMs
        this.sent++
        this.#sensors[number].publish(qos)
      }
    }, 5)
  }

  get acknowledged() {
    return this.#sensors.reduce((sum, sensor) => sum + sensor.acknowledged, 0)
  }

  close() {
    clearInterval(this.#timer)
    for (const sensor of this.#sensors) sensor.close()
  }
}

/** A backend that takes everything from the queue and acknowledges it at once. Returns its end. */
export async function drainQueue(port, queue, onMessage) {
  const connection = await openAmqp(`amqp://guest:guest@127.0.0.1:${port}`)
  const channel = await connection.createChannel()
  await channel.prefetch(100)
  await channel.consume(queue, message => {
    onMessage()
    channel.ack(message)
  })
  return () => connection.close()
}

/** An MQTT session that lasts; `isAway`: it leaves again, and the broker keeps what comes. Returns its end. */
export async function openSession(port, isAway, onMessage) {
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, {
    clientId: 'receiver',
    clean: false,
    keepalive: 0,
    reconnectPeriod: 0
  })
  client.on('message', onMessage)
  await client.subscribeAsync('sensors/#', { qos: 1 })
  if (!isAway) return () => client.endAsync()
  await client.endAsync()
  return async () => undefined
}
