/** What holds for plain sockets holds behind TLS: back pressure, the time a reader has, keepalive probes, nothing left. */
import { readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import { connect, type TLSSocket } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Arrival } from '../../src/net/arrival.ts'
import { Handshakes } from '../../src/net/handshakes.ts'
import { PeerSocket, type SocketHandler, Sockets } from '../../src/net/socket.ts'
import { loadTls } from '../../src/net/tls-files.ts'
import type { TlsSource } from '../../src/net/tls-source.ts'
import { NO_TLS } from '../../src/config/tls.ts'
import { Authority, writePair } from '../support/certs.ts'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const MIB = 2 ** 20

class Peer implements SocketHandler {
  socket!: PeerSocket
  bytes = 0
  drained = 0
  isClosed = false
  onBytes(_buffer: Buffer, start: number, end: number): void {
    this.bytes += end - start
  }
  onDrained(): void {
    this.drained++
  }
  onClosed(): void {
    this.isClosed = true
  }
}

const folder = mkdtempSync(join(tmpdir(), 'motemq-tls-'))
const pair = writePair(folder, 'server', new Authority().server())
const settings = { ...NO_TLS, ...pair, isDefaultCert: false, isCrlOptional: false }
const material = loadTls(settings, Date.now())
rmSync(folder, { recursive: true })

let server: ReturnType<typeof createServer>
let accepted: Socket[] = []
let peers: Peer[] = []
let handshakes: Handshakes
let sockets: Sockets

/** What a handshake needs of the one who arrives. */
function arrive(socket: Socket): Arrival {
  const arrival = {
    socket,
    stream: socket,
    waitedMs: 0,
    identity: null,
    isCertified: false,
    isOver: false,
    hold: () => true,
    refuse: () => socket.destroy(),
    next(stream: TLSSocket) {
      const peer = new Peer()
      peer.socket = new PeerSocket(stream, peer, sockets)
      peers.push(peer)
    }
  }
  return arrival as unknown as Arrival
}

beforeEach(async () => {
  accepted = []
  peers = []
  handshakes = new Handshakes(10)
  sockets = new Sockets({ outputBytesMax: MIB, drainTimeoutMs: 2_000 })
  const source = { settings, current: material } as unknown as TlsSource
  const stage = handshakes.stage({ source, alpn: [] })
  server = createServer({ pauseOnConnect: true, keepAlive: true }, socket => {
    accepted.push(socket)
    stage(arrive(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})

afterEach(async () => {
  for (const socket of accepted) socket.destroy()
  await new Promise(resolve => server.close(resolve))
})

async function client(): Promise<TLSSocket> {
  const { port } = server.address() as AddressInfo
  const count = peers.length
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false })
  socket.on('error', () => undefined)
  await new Promise(resolve => socket.once('secureConnect', resolve))
  await expect.poll(() => peers.length, { interval: 1 }).toBe(count + 1)
  return socket
}

describe('a socket behind TLS', () => {
  it('is stuck when its peer reads nothing, and goes on when it does, with every byte', async () => {
    const reader = await client()
    reader.pause()
    const peer = peers[0]!
    const chunk = Buffer.alloc(64 * 1024, 1)
    let sent = 0
    while (!peer.socket.isStuck) {
      peer.socket.write(chunk, 0, chunk.length)
      sent += chunk.length
      await new Promise(resolve => setImmediate(resolve))
      expect(sent).toBeLessThan(64 * MIB)
    }
    let got = 0
    reader.on('data', data => {
      got += data.length
    })
    reader.resume()
    await expect.poll(() => peer.drained, { timeout: 10_000 }).toBe(1)
    await expect.poll(() => got, { timeout: 10_000 }).toBe(sent)
    expect(peer.socket.lostUnits(null)).toEqual([0, 0, 0])
    reader.destroy()
  })

  it('lives while its peer reads, however slowly, and is dropped when it does not', async () => {
    const reader = await client()
    reader.pause()
    const peer = peers[0]!
    // One write far beyond what the kernel holds.
    const large = Buffer.alloc(64 * MIB, 1)
    peer.socket.units[1]!++
    peer.socket.writeShared(large, 1)
    let got = 0
    const slowly = setInterval(() => {
      const piece = reader.read(32_768) as Buffer | null
      got += piece?.length ?? 0
    }, 20)
    await new Promise(resolve => setTimeout(resolve, 4_000))
    expect([peer.isClosed, got > 0]).toEqual([false, true])
    clearInterval(slowly)
    await expect.poll(() => peer.isClosed, { timeout: 10_000 }).toBe(true)
    expect(sockets.stuckCount).toBe(1)
    expect(peer.socket.lostUnits(null)).toEqual([0, 2, 0])
  })

  it('reads nothing while its owner pauses it', async () => {
    const writer = await client()
    const peer = peers[0]!
    peer.socket.pauseReading()
    writer.write(Buffer.alloc(MIB))
    await new Promise(resolve => setTimeout(resolve, 200))
    const before = peer.bytes
    expect(before).toBeLessThan(256 * 1024)
    peer.socket.resumeReading()
    await expect.poll(() => peer.bytes, { timeout: 10_000 }).toBe(MIB)
    writer.destroy()
  })

  it('has its last bytes sent before it closes', async () => {
    const reader = await client()
    let got = 0
    reader.on('data', data => {
      got += data.length
    })
    const closed = new Promise(resolve => reader.once('close', resolve))
    const bytes = Buffer.alloc(300_000, 2)
    peers[0]!.socket.write(bytes, 0, bytes.length)
    peers[0]!.socket.close('done')
    await closed
    expect(got).toBe(bytes.length)
    await expect.poll(() => peers[0]!.isClosed).toBe(true)
  })

  it('asks the kernel to look for dead peers', async () => {
    const one = await client()
    const port = one.localPort!.toString(16).toUpperCase().padStart(4, '0')
    const { port: own } = server.address() as AddressInfo
    const local = own.toString(16).toUpperCase().padStart(4, '0')
    const timer = () => {
      const lines = readFileSync('/proc/net/tcp', 'latin1').split('\n')
      const line = lines.find(text => text.includes(`0100007F:${local} 0100007F:${port} `))
      return line?.trim().split(/\s+/)[5]?.slice(0, 2)
    }
    // The timer that runs once everything is acknowledged: 02 is keepalive's (proc(5)).
    await expect.poll(timer, { timeout: 5_000 }).toBe('02')
    one.destroy()
  })

  it('leaves nothing behind', async () => {
    for (let i = 0; i < 300; i++) {
      const one = await client()
      if (i % 2 === 0) one.destroy()
      else one.end()
    }
    await expect.poll(() => peers.filter(peer => !peer.isClosed).length).toBe(0)
    expect([handshakes.runningCount, handshakes.waitingCount]).toEqual([0, 0])
    await expect.poll(() => accepted.filter(socket => !socket.destroyed).length).toBe(0)
    expect(handshakes.completed).toBe(300)
  })
})
