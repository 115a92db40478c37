/** WebSockets under pressure: what strangers may make us keep, and what waits for slow and from fast peers. */
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { packet, type RawMqtt, text } from '../support/raw-mqtt.ts'
import { BINARY, CONTINUATION, frame, PING, type RawWebSocket } from '../support/raw-web-socket.ts'
import { StagedGateway, type StagedOptions } from '../support/staged-gateway.ts'

const MIB = 1024 * 1024

let gateway: StagedGateway
afterEach(async () => {
  expect(gateway.mqtt.bugs).toBe(0)
  await gateway.close()
  expect(gateway.sockets.preLoginBytes).toBe(0)
  expect(gateway.admission.open).toBe(0)
})

async function start(options: StagedOptions = {}): Promise<void> {
  gateway = await new StagedGateway(options).start()
  await gateway.listen()
}

async function open(clientId: string, keepalive = 0): Promise<RawWebSocket> {
  const client = await gateway.upgrade()
  client.send(frame(BINARY, packet(0x10, text('MQTT'), [4, 2, 0, keepalive], text(clientId))))
  await client.read(4)
  return client
}

async function publisher(): Promise<RawMqtt> {
  const raw = await gateway.dial()
  await raw.connect(4, { clientId: 'publisher', keepalive: 0 })
  return raw
}

async function subscribe(client: RawWebSocket, topic: string, qos: number): Promise<void> {
  client.send(frame(BINARY, packet(0x82, '00 01', text(topic), [qos])))
  await client.read(5)
}

describe('before its login', () => {
  it('a peer may not make us keep more than a CONNECT may have', async () => {
    await start()
    const large = frame(BINARY, Buffer.alloc(MIB))
    const fragments = [frame(BINARY, 'x', { isFinal: false })]
    for (let i = 0; i < 40_000; i++) fragments.push(frame(CONTINUATION, 'x', { isFinal: false }))
    for (const input of [large, Buffer.concat(fragments)]) {
      const stranger = await gateway.upgrade()
      stranger.send(input)
      expect([1008, 1009]).toContain(await stranger.closeCode())
      stranger.destroy()
    }
  })

  it('B82 requests without an end count too: all together 8 MiB', async () => {
    await start()
    const { port } = await gateway.listen()
    const head = `GET /mqtt HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(15_000)}`
    let gone = 0
    const strangers = Array.from({ length: 700 }, () => connect(port, '127.0.0.1'))
    for (const stranger of strangers) {
      stranger.on('error', () => undefined)
      stranger.once('close', () => gone++)
      stranger.write(head)
    }
    await expect.poll(() => gone, { timeout: 8_000 }).toBeGreaterThan(0)
    expect(gateway.sockets.preLoginBytes).toBeLessThanOrEqual(8 * MIB)
    expect(gateway.sockets.preLoginBytes).toBeGreaterThan(6 * MIB)
    for (const stranger of strangers) stranger.destroy()
    await expect.poll(() => gateway.admission.open, { timeout: 8_000 }).toBe(0)
  })

  it('B03 all together may not make us keep more than 8 MiB', async () => {
    await start()
    const part = frame(BINARY, Buffer.alloc(60_000), { length: 65_000 })
    const strangers: RawWebSocket[] = []
    for (let i = 0; i < 200; i++) {
      const stranger = await gateway.upgrade()
      stranger.send(part)
      strangers.push(stranger)
    }
    const ends = strangers.map(stranger => stranger.closed())
    await Promise.race(ends)
    await gateway.until(() => gateway.mqtt.count < 150)
    expect(gateway.sockets.preLoginBytes).toBeLessThanOrEqual(8 * MIB)
    expect(gateway.sockets.preLoginBytes).toBeGreaterThan(6 * MIB)
  })

  it('many small messages are no more than one', async () => {
    await start()
    const client = await gateway.upgrade()
    const login = packet(0x10, text('MQTT'), [4, 2, 0, 0], text('x'.repeat(200)))
    for (const byte of login) {
      client.send(frame(BINARY, Buffer.from([byte])))
      await new Promise(setImmediate)
    }
    expect((await client.read(4)).toString('hex')).toBe('20020000')
    expect(gateway.sockets.preLoginBytes).toBe(0)
  })

  it('B11 the deadline of the login holds, the time of the handshake included', async () => {
    await start()
    const stranger = await gateway.upgrade()
    stranger.send(frame(BINARY, '\x10', { isFinal: false }))
    gateway.pass(11)
    expect(await stranger.closeCode()).toBe(1000)
    stranger.destroy()
  })
})

/** What came over the raw socket as WebSocket frames, the last one cut anywhere: its payload. */
function payloadOf(raw: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at + 2 <= raw.length; ) {
    let length = raw[at + 1]!
    const opcode = raw[at]! & 15
    at += 2
    if (length === 126) {
      length = at + 2 <= raw.length ? raw.readUInt16BE(at) : 0
      at += 2
    } else if (length === 127) {
      length = at + 8 <= raw.length ? Number(raw.readBigUInt64BE(at)) : 0
      at += 8
    }
    if (opcode === BINARY) parts.push(raw.subarray(at, at + length))
    at += length
  }
  return Buffer.concat(parts)
}

/** PUBLISHes that are there whole. */
function countWhole(bytes: Buffer): number {
  let count = 0
  for (let at = 0; at < bytes.length; ) {
    let length = 0
    let shift = 0
    const isPublish = bytes[at]! >> 4 === 3
    at++
    for (;;) {
      if (at >= bytes.length) return count
      const byte = bytes[at++]!
      length += (byte & 127) << shift
      shift += 7
      if (byte < 128) break
    }
    at += length
    if (at <= bytes.length && isPublish) count++
  }
  return count
}

describe('a slow reader', () => {
  it('is behind its queue, not behind our memory, and gets every QoS 1 message', async () => {
    await start()
    const slow = await open('slow')
    await subscribe(slow, 'much', 1)
    slow.socket.pause()
    const source = await publisher()
    // More than the kernel's buffers hold.
    const payload = Buffer.alloc(30_000, 1)
    const total = 700
    for (let i = 1; i <= total; i++) {
      source.send(packet(0x32, text('much'), [i >> 8, i & 255], payload))
      await source.next()
    }
    const waiting = [...gateway.broker.state.queues.values()].find(queue => queue.isSession)!
    expect(waiting.count).toBe(total)
    expect(waiting.readyCount).toBeGreaterThan(50)
    slow.socket.resume()
    const size = packet(0x32, text('much'), [0, 1], payload).length
    for (let i = 1; i <= total; i++) {
      const got = await slow.read(size)
      slow.send(frame(BINARY, Buffer.concat([Buffer.from([0x40, 2]), got.subarray(10, 12)])))
    }
    await gateway.until(() => waiting.count === 0)
    expect(gateway.broker.counters.dropped.get('closed') ?? 0).toBe(0)
  })

  it('that is given up: sent is what the kernel had, the rest is dropped as closed, exactly', async () => {
    await start({ limits: { drainTimeoutMs: 1_000 } })
    const slow = await open('slow')
    await subscribe(slow, 'much', 0)
    slow.socket.pause()
    const chunks: Buffer[] = []
    slow.socket.removeAllListeners('data').on('data', chunk => chunks.push(chunk))
    slow.socket.pause()
    const source = await publisher()
    const total = 9_000
    const sizes = [10, 3_000, 700, 1_500]
    for (let i = 0; i < total; i += 100) {
      const some = Array.from({ length: 100 }, (_, n) =>
        packet(0x30, text('much'), Buffer.alloc(sizes[(i + n) % 4]!, 1))
      )
      source.send(...some)
      await source.quiet()
    }
    await gateway.until(() => gateway.sockets.stuckCount === 1)
    slow.socket.resume()
    await new Promise<void>(resolve => slow.socket.on('close', () => resolve()))
    await gateway.until(() => gateway.mqtt.count === 1)
    const { counters } = gateway.broker
    const dropped = [...counters.dropped.values()].reduce((sum, count) => sum + count, 0)
    const got = countWhole(payloadOf(Buffer.concat(chunks)))
    expect(counters.dropped.get('closed')).toBeGreaterThan(10)
    expect(got + dropped).toBe(total)
    expect(counters.mqttSent[0]).toBe(got)
  })

  it('that only asks is not answered without end', async () => {
    await start()
    const client = await open('pinger')
    client.socket.pause()
    const pings = Buffer.concat(Array.from({ length: 200 }, () => frame(PING, 'x'.repeat(125))))
    let isOver = false
    client.socket.on('close', () => {
      isOver = true
    })
    let sent = 0
    while (!isOver && sent < 100 * MIB) {
      client.socket.write(pings)
      sent += pings.length
      if (client.socket.writableLength > MIB) await new Promise(setImmediate)
      if (gateway.mqtt.count === 0) break
    }
    await gateway.until(() => gateway.mqtt.count === 0)
    client.socket.resume()
  })

  it('gets what is written in a turn as one message', async () => {
    await start()
    const reader = await open('reader')
    await subscribe(reader, 'small', 0)
    const source = await publisher()
    const one = packet(0x30, text('small'), [1])
    source.send(...Array.from({ length: 1_000 }, () => one))
    let frames = 0
    for (let bytes = 0; bytes < 1_000 * one.length; frames++) {
      const next = await reader.nextFrame()
      bytes += next!.payload.length
    }
    expect(frames).toBeLessThan(50)
  })
})

describe('a fast writer', () => {
  it('is not read while the broker cannot take it', async () => {
    await start()
    const writer = await open('writer')
    gateway.alarm(true)
    const before = gateway.sockets.bytesIn
    const some = frame(BINARY, packet(0x33, text('in'), [0, 1], Buffer.alloc(50_000, 1)))
    let sent = 0
    while (sent < 16 * MIB) {
      writer.send(some)
      sent += some.length
    }
    for (let i = 0; i < 200; i++) await new Promise(setImmediate)
    expect(gateway.sockets.bytesIn - before).toBeLessThan(2 * MIB)
    expect(writer.socket.writableLength).toBeGreaterThan(2 * MIB)
    gateway.alarm(false)
    await gateway.until(() => gateway.sockets.bytesIn - before > 12 * MIB)
  })

  it('is not read while it takes no answers', async () => {
    await start()
    const writer = await open('writer')
    writer.socket.pause()
    const before = gateway.sockets.bytesIn
    const pings = frame(BINARY, Buffer.from('c000'.repeat(30_000), 'hex'))
    let sent = 0
    while (sent < 24 * MIB) {
      writer.send(pings)
      sent += pings.length
    }
    let last = -1
    while (gateway.sockets.bytesIn !== last) {
      last = gateway.sockets.bytesIn
      for (let i = 0; i < 200; i++) await new Promise(setImmediate)
    }
    expect(gateway.sockets.bytesIn - before).toBeLessThan(12 * MIB)
    writer.socket.removeAllListeners('data')
    writer.socket.resume()
    await gateway.until(() => gateway.sockets.bytesIn - before > 12 * MIB)
    writer.destroy()
  })
})
