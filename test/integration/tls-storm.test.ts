/** Thousands of handshakes that never end, on a network of their own: nobody else is kept waiting (B85). */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Authority } from '../support/certs.ts'
import { type HostRun, requireNamespaces, TwoHosts } from '../support/namespaces.ts'

/** Sends `kind` of a hello on `count` connections, tells how long others take meanwhile, and when it was closed. */
const STORM = `
import { connect } from 'node:net'
import tls from 'node:tls'
import { connectAsync } from 'mqtt'
const [address, port, kind, count] = process.argv.slice(1)
// A whole ClientHello, taken from a client of our own.
const hello = await new Promise(resolve => {
  import('node:net').then(({ createServer }) => {
    const server = createServer(socket => socket.once('data', data => { resolve(data); server.close(); socket.destroy() }))
    server.listen(0, '127.0.0.1', () => tls.connect({ port: server.address().port, host: '127.0.0.1' }).on('error', () => {}))
  })
})
const bytes = kind === 'partial' ? hello.subarray(0, 60) : hello
let open = 0
let closed = 0
let firstClosed = 0
let lastClosed = 0
const begun = performance.now()
// For how long the machine did not let this program run: the broker fares alike.
let stalledMs = 0
let ticked = begun
setInterval(() => {
  const now = performance.now()
  stalledMs += Math.max(0, now - ticked - 40)
  ticked = now
}, 20)
const sockets = []
for (let i = 0; i < Number(count); i++) {
  const socket = connect(Number(port), address, () => { open++; socket.write(bytes) })
  sockets.push(socket)
  socket.resume()
  socket.on('error', () => {})
  socket.on('close', () => {
    closed++
    lastClosed = performance.now()
    if (firstClosed === 0) firstClosed = lastClosed
  })
}
while (open < Number(count) && performance.now() - begun < 20_000) await new Promise(r => setTimeout(r, 10))
const opened = performance.now()
const times = []
for (let i = 0; i < 20; i++) {
  const start = performance.now()
  const client = await connectAsync('mqtts://' + address + ':' + port, { rejectUnauthorized: false, reconnectPeriod: 0 })
  await client.publishAsync('a', 'b', { qos: 1 })
  times.push(performance.now() - start)
  await client.endAsync()
}
while (closed < Number(count) && performance.now() - opened < 25_000 + stalledMs) await new Promise(r => setTimeout(r, 50))
console.log(JSON.stringify({ open, closed, times, firstClosedMs: firstClosed - begun, lastClosedMs: lastClosed - opened, stalledMs }))
process.exit(0)
`

interface Seen {
  readonly open: number
  readonly closed: number
  readonly times: readonly number[]
  readonly firstClosedMs: number
  readonly lastClosedMs: number
  readonly stalledMs: number
}

requireNamespaces('handshakes that never end', () => {
  const folder = mkdtempSync(join(tmpdir(), 'motemq-storm-'))
  let hosts: TwoHosts
  let broker: HostRun

  beforeAll(async () => {
    const { cert, key } = new Authority().server()
    writeFileSync(join(folder, 'server.crt'), cert)
    writeFileSync(join(folder, 'server.key'), key, { mode: 0o600 })
    hosts = new TwoHosts()
    const files = ['--tls-cert', 'server.crt', '--tls-key', 'server.key']
    const words = ['start', '--data', 'd', '--listen', 'mqtts://0.0.0.0:8883?insecure=true']
    broker = hosts.motemq([...words, ...files], folder)
    await broker.ready()
  })

  afterAll(async () => {
    await broker.stop()
    await hosts.remove()
    rmSync(folder, { recursive: true, force: true })
  })

  const rssOf = () => {
    const status = readFileSync(`/proc/${broker.pid}/status`, 'latin1')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024
  }

  it.each([
    ['partial', 2_000],
    ['whole', 2_000]
  ])(
    'B85 as %s first records, %i of them, are closed in time and keep nobody out',
    async (kind, count) => {
      const before = rssOf()
      let peak = before
      const watch = setInterval(() => {
        peak = Math.max(peak, rssOf())
      }, 50)
      const args = [hosts.address, '8883', kind, String(count)]
      const { stdout, stderr, code } = await hosts.nodeThere(STORM, args)
      clearInterval(watch)
      expect([code, stderr]).toEqual([0, ''])
      const seen = JSON.parse(stdout) as Seen
      expect([seen.open, seen.closed]).toEqual([count, count])
      // Others: each of them, with a handshake, CONNECT and an acknowledged message.
      const sorted = [...seen.times].sort((a, b) => a - b)
      expect(sorted[Math.floor(sorted.length / 2)]).toBeLessThan(1_000)
      expect(sorted.at(-1)).toBeLessThan(8_000)
      // Nobody has longer than the time for the login, and the partial ones have it.
      expect(seen.lastClosedMs).toBeLessThan(14_000 + seen.stalledMs)
      if (kind === 'partial') expect(seen.firstClosedMs).toBeGreaterThan(8_000)
      expect(peak - before).toBeLessThan(64 * 1024 * 1024)
    },
    60_000
  )
})
