import { once } from 'node:events'
import net from 'node:net'
import { Duplex, PassThrough } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { PeerSocket, type SocketHandler, Sockets } from '../../src/net/socket.ts'

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0)) cleanup()
})

class Recorder implements SocketHandler {
  socket!: PeerSocket
  received = Buffer.alloc(0)
  drained = 0
  closed = 0
  onData: (bytes: Buffer) => void = () => {}
  waiters: (() => void)[] = []

  onBytes(buffer: Buffer, start: number, end: number): void {
    const bytes = Buffer.from(buffer.subarray(start, end))
    this.received = Buffer.concat([this.received, bytes])
    this.onData(bytes)
    this.wake()
  }
  onDrained(): void {
    this.drained++
    this.wake()
  }
  onClosed(): void {
    this.closed++
    this.wake()
  }
  wake(): void {
    for (const waiter of this.waiters.splice(0)) waiter()
  }
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>(resolve => this.waiters.push(resolve))
  }
}

async function pair(options: { outputBytesMax?: number; drainTimeoutMs?: number } = {}) {
  const sockets = new Sockets({
    outputBytesMax: options.outputBytesMax ?? 1024 * 1024,
    drainTimeoutMs: options.drainTimeoutMs ?? 30_000
  })
  const recorder = new Recorder()
  const server = net.createServer({ pauseOnConnect: true, noDelay: true }, accepted => {
    recorder.socket = new PeerSocket(accepted, recorder, sockets)
    recorder.wake()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
  client.on('error', () => {})
  await recorder.until(() => recorder.socket !== undefined)
  cleanups.push(() => {
    client.destroy()
    recorder.socket.destroy()
    server.close()
  })
  return { server, sockets, recorder, client }
}

function collect(client: net.Socket): { bytes: () => Buffer; ended: Promise<unknown> } {
  const chunks: Buffer[] = []
  client.on('data', chunk => chunks.push(chunk))
  return { bytes: () => Buffer.concat(chunks), ended: once(client, 'close') }
}

describe('many peer sockets', () => {
  it('are written in bounded turns, and what waits for its turn gathers more, in order', async () => {
    const sockets = new Sockets({ outputBytesMax: 1024 * 1024, drainTimeoutMs: 30_000 })
    const writes = Array.from({ length: 3_000 }, () => [] as string[])
    const peers = writes.map((own, index) => {
      const stream = new Duplex({
        read: () => {},
        write: (chunk, _encoding, done) => {
          own.push(String(chunk))
          done()
        }
      })
      const peer = { address: '127.0.0.1', port: index + 1 }
      return new PeerSocket(stream, new Recorder(), sockets, peer)
    })
    const turn = () => new Promise<void>(resolve => setImmediate(resolve))
    const writtenCount = () => writes.filter(own => own.length > 0).length
    const [a, b] = [Buffer.from('a'), Buffer.from('b')]
    for (const peer of peers) peer.write(a, 0, 1)
    await turn()
    const first = writtenCount()
    expect(first).toBeGreaterThan(0)
    expect(first).toBeLessThan(peers.length / 2)
    for (const peer of peers) peer.write(b, 0, 1)
    let turns = 0
    while (writes.some(own => own.join('') !== 'ab')) {
      const before = writtenCount()
      await turn()
      expect(writtenCount() - before).toBeLessThanOrEqual(first)
      expect(++turns).toBeLessThan(20)
    }
    // Those whose turn had come got the second in a write of its own.
    expect(writes.filter(own => own.length === 2)).toHaveLength(first)
    for (const peer of peers) peer.destroy()
  })
})

describe('a peer socket', () => {
  it('gives every byte to its handler and every byte of the output to the peer, in order', async () => {
    const { recorder, client } = await pair()
    const seen = collect(client)
    const sent = Buffer.alloc(300_000)
    for (let i = 0; i < sent.length; i++) sent[i] = (i * 31) & 255
    client.write(sent)
    await recorder.until(() => recorder.received.length === sent.length)
    expect(recorder.received.equals(sent)).toBe(true)
    const socket = recorder.socket
    let at = 0
    for (const size of [1, 4095, 1, 5000, 60_000, 65_536, 100_000, 3]) {
      socket.write(sent, at, at + size)
      at += size
    }
    socket.writeShared(sent.subarray(at, at + 20_000), 0)
    at += 20_000
    socket.write(sent, at, at + 7)
    at += 7
    socket.close('done')
    await seen.ended
    expect(seen.bytes().equals(sent.subarray(0, at))).toBe(true)
    await recorder.until(() => recorder.closed === 1)
    expect(socket.bytesIn).toBe(sent.length)
    expect(socket.bytesOut).toBe(at)
    expect(socket.closeReason).toBe('done')
    expect(socket.lostUnits(null)).toEqual([0, 0, 0])
  })

  it('names its peer and lets the server close when the last socket is gone', async () => {
    const { recorder, client, server } = await pair()
    expect(recorder.socket.peer).toBe(`127.0.0.1:${client.localPort}`)
    const closed = once(server, 'close')
    server.close()
    client.end()
    await closed
    await recorder.until(() => recorder.closed === 1)
  })

  it('answers what came before the end of a peer that has closed its half', async () => {
    const { recorder, client } = await pair()
    recorder.onData = bytes => recorder.socket.write(bytes, 0, bytes.length)
    const seen = collect(client)
    client.end('last words')
    await seen.ended
    expect(seen.bytes().toString()).toBe('last words')
  })

  it('is stuck above its bound, and drained when the peer reads again', async () => {
    const { recorder, client } = await pair({ outputBytesMax: 100_000 })
    client.pause()
    const socket = recorder.socket
    const chunk = Buffer.alloc(50_000, 7)
    let written = 0
    while (!socket.isStuck) {
      socket.write(chunk, 0, chunk.length)
      written += chunk.length
      await new Promise(setImmediate)
    }
    expect(recorder.drained).toBe(0)
    expect(socket.pendingBytes).toBeGreaterThanOrEqual(100_000)
    let read = 0
    client.on('data', bytes => {
      read += bytes.length
      recorder.wake()
    })
    client.resume()
    await recorder.until(() => recorder.drained === 1 && read === written)
    expect(socket.isStuck).toBe(false)
    expect(socket.pendingBytes).toBe(0)
  })

  it('gathers further while the kernel is busy, not in a buffer a turn', async () => {
    const { recorder, client } = await pair({ outputBytesMax: 100_000 })
    client.pause()
    const socket = recorder.socket
    const chunk = Buffer.alloc(50_000, 7)
    while (!socket.isStuck) {
      socket.write(chunk, 0, chunk.length)
      await new Promise(setImmediate)
    }
    const before = socket.end
    for (let turn = 0; turn < 10; turn++) {
      socket.write(chunk, 0, 10)
      await new Promise(setImmediate)
    }
    expect(socket.end).toBe(before + 100)
  })

  it('destroys a peer that takes nothing, and counts what it never took', async () => {
    const { recorder, client, sockets } = await pair({
      outputBytesMax: 100_000,
      drainTimeoutMs: 500
    })
    client.pause()
    const socket = recorder.socket
    const chunk = Buffer.alloc(50_000, 7)
    while (!socket.isStuck) {
      socket.write(chunk, 0, chunk.length)
      socket.units[0]++
      await new Promise(setImmediate)
    }
    await recorder.until(() => recorder.closed === 1)
    expect(sockets.stuckCount).toBe(1)
    expect(socket.lostUnits(null)[0]).toBeGreaterThanOrEqual(2)
  })

  it('is not read while it leaves its answers lying, and read again when it has taken them', async () => {
    const { recorder, client } = await pair({ outputBytesMax: 100_000 })
    client.pause()
    const socket = recorder.socket
    // Every byte of a question is answered by a thousand.
    recorder.onData = bytes => {
      const answer = Buffer.alloc(bytes.length * 1_000, 7)
      socket.write(answer, 0, answer.length)
    }
    const question = Buffer.alloc(100, 1)
    let asked = 0
    while (!socket.isUnread) {
      client.write(question)
      asked += question.length
      await new Promise(setImmediate)
    }
    const pending = socket.pendingBytes
    expect(pending).toBeGreaterThanOrEqual(400_000)
    for (let i = 0; i < 50; i++) {
      client.write(question)
      asked += question.length
      await new Promise(setImmediate)
    }
    expect(socket.pendingBytes).toBeLessThanOrEqual(pending)
    // What its owner paused stays paused when the answers are taken.
    socket.pauseReading()
    let answered = 0
    client.on('data', bytes => {
      answered += bytes.length
      recorder.wake()
    })
    client.resume()
    await recorder.until(() => !socket.isUnread && answered === recorder.received.length * 1_000)
    expect(recorder.received.length).toBeLessThan(asked)
    socket.resumeReading()
    await recorder.until(() => answered === asked * 1_000)
  })

  it('takes any stream of bytes, as TLS and WebSocket bring them', async () => {
    const sockets = new Sockets({ outputBytesMax: 100_000, drainTimeoutMs: 1_000 })
    const recorder = new Recorder()
    const peer = { address: '192.0.2.7', port: 99 }
    // What is written to it comes back to be read.
    const socket = new PeerSocket(new PassThrough(), recorder, sockets, peer)
    expect(socket.peer).toBe('192.0.2.7:99')
    const sent = Buffer.alloc(200_000, 'abc')
    for (let at = 0; at < sent.length; at += 1_000) socket.write(sent, at, at + 1_000)
    await recorder.until(() => recorder.received.length === sent.length)
    expect(recorder.received.equals(sent)).toBe(true)
    socket.close('done')
    await recorder.until(() => recorder.closed === 1)
    expect(socket.lostUnits(null)).toEqual([0, 0, 0])
  })

  it('reads nothing while paused', async () => {
    const { recorder, client } = await pair()
    client.write('a')
    await recorder.until(() => recorder.received.length === 1)
    recorder.socket.pauseReading()
    client.write('b')
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
    expect(recorder.received.toString()).toBe('a')
    recorder.socket.resumeReading()
    await recorder.until(() => recorder.received.length === 2)
  })
})
