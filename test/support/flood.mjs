/**
 * Floods of bad input, one a run, from a process of its own: `flood.mjs PORT NAME WORDS...`. Beside them a witness
 * publishes to itself. The result is one line of JSON; what is connected then stays so until standard input ends.
 */
import { connect } from 'node:net'

const [port, name, ...words] = process.argv.slice(2)
const PING = Buffer.from([0xc0, 0])
const WITNESS_EVERY_MS = 10
const open = new Set()

const text = value => {
  const content = Buffer.from(value)
  return Buffer.concat([Buffer.from([content.length >> 8, content.length & 255]), content])
}

function packet(first, ...parts) {
  const body = Buffer.concat(parts.map(part => Buffer.from(part)))
  const head = [first]
  let length = body.length
  while (length > 127) {
    head.push((length & 127) | 128)
    length >>= 7
  }
  return Buffer.concat([Buffer.from([...head, length]), body])
}

class Client {
  packets = []
  isClosed = false
  #rest = Buffer.alloc(0)
  #wake = () => undefined

  constructor() {
    this.socket = connect({ port: Number(port), host: '127.0.0.1', noDelay: true })
    open.add(this)
    this.socket.on('data', chunk => this.#take(chunk))
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => {
      this.isClosed = true
      open.delete(this)
      this.#wake()
    })
  }

  /** Resolves false when the socket is closed; with what is written gone to the kernel. */
  write(bytes) {
    if (this.isClosed) return Promise.resolve(false)
    return new Promise(resolve => this.socket.write(bytes, error => resolve(error == null)))
  }

  async next() {
    while (this.packets.length === 0) {
      if (this.isClosed) return null
      await new Promise(resolve => {
        this.#wake = resolve
      })
    }
    return this.packets.shift()
  }

  async connect(version, id, { flags = 2, properties = [], behind = [] } = {}) {
    const five = version === 5 ? [properties.length, ...properties] : []
    await this.write(packet(0x10, text('MQTT'), [version, flags, 0, 0], five, text(id), ...behind))
    return this.next()
  }

  /** Resolves when it is; what came stays in `packets`. */
  async closed() {
    if (!this.isClosed) await new Promise(resolve => this.socket.once('close', resolve))
  }

  #take(chunk) {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    for (;;) {
      let length = 0
      let at = 1
      for (let shift = 0; ; shift += 7, at++) {
        if (at >= this.#rest.length) return
        length |= (this.#rest[at] & 127) << shift
        if (this.#rest[at] < 128) break
      }
      const end = at + 1 + length
      if (this.#rest.length < end) return
      this.packets.push(this.#rest.subarray(0, end))
      this.#rest = this.#rest.subarray(end)
      this.#wake()
    }
  }
}

/** Counts by what they are. */
const tally = found => {
  const counts = {}
  for (const each of found) counts[each] = (counts[each] ?? 0) + 1
  return counts
}

/** So many at once at most. */
async function many(count, atOnce, one) {
  const results = []
  let next = 0
  const work = async () => {
    while (next < count) {
      const index = next++
      results.push(await one(index))
    }
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  return results
}

const code = connack => (connack === null ? 'closed' : `0x${connack[3].toString(16)}`)

const FLOODS = {
  /** Connections that send these bytes and then nothing. */
  async strangers(count, hex) {
    const clients = await many(Number(count), 200, async () => {
      const client = new Client()
      await client.write(Buffer.from(hex, 'hex'))
      return client
    })
    await Promise.all(clients.map(client => client.closed()))
    return { closed: clients.filter(({ packets }) => packets.length === 0).length }
  },

  /** Clients with a large will each. */
  async wills(count, bytes, version) {
    const five = version === '5' ? [0] : []
    const payload = 'w'.repeat(Number(bytes))
    const codes = await many(Number(count), 50, async index => {
      const behind = [five, text(`wills/${index}`), text(payload)]
      return code(
        await new Client().connect(Number(version), `will-${index}`, { flags: 6, behind })
      )
    })
    return tally(codes)
  },

  /** One connection after another with one packet, after its login or instead of it. */
  async packets(count, version, hex) {
    const told = await many(Number(count), 1, async index => {
      const client = new Client()
      if (version !== '0') await client.connect(Number(version), `packets-${index}`)
      await client.write(Buffer.from(hex, 'hex'))
      const answer = await client.next()
      client.socket.destroy()
      return answer === null ? 'closed' : answer.toString('hex')
    })
    return tally(told)
  },

  /** Client ids that come once, with the longest session expiry that can be asked for. */
  async ids(count) {
    const codes = await many(Number(count), 50, async index => {
      const client = new Client()
      const properties = [0x11, 255, 255, 255, 255]
      const connack = await client.connect(5, `id-${index}`, { flags: 0, properties })
      client.socket.resetAndDestroy()
      return code(connack)
    })
    return tally(codes)
  },

  /** Acknowledgements of nothing, as fast as they go, by one client after another that is cut off for it. */
  async acks(count, version, clientsMax, ...types) {
    const chunk = Buffer.alloc(4 * 10_000)
    let sent = 0
    const ends = []
    for (let clients = 0; clients < Number(clientsMax) && sent < Number(count); clients++) {
      const client = new Client()
      await client.connect(Number(version), `acks-${clients}`)
      let last = null
      while (sent < Number(count) && !client.isClosed) {
        for (let i = 0; i < 10_000; i++) {
          const id = 1 + Math.floor(Math.random() * 65_535)
          chunk.set([Number(`0x${types[i % types.length]}`), 2, id >> 8, id & 255], 4 * i)
        }
        sent += 10_000
        if (!(await client.write(chunk))) break
        last = client.packets.pop() ?? last
        client.packets.length = 0
      }
      if (!client.isClosed) await client.write(PING)
      for (let found; last?.[0] !== 0xd0 && (found = await client.next()) !== null; ) last = found
      ends.push(client.isClosed ? (last?.[0] === 0xe0 ? last.toString('hex') : 'closed') : 'lives')
      client.socket.destroy()
    }
    return { sent, ...tally(ends) }
  },

  /** As many retained topics, QoS 0, and then one a time of them with QoS 1. */
  async retained(count, version) {
    const client = new Client()
    await client.connect(Number(version), 'retained')
    const none = version === '5' ? [0] : []
    for (let at = 0; at < Number(count); at += 1_000) {
      const chunk = []
      for (let i = at; i < at + 1_000; i++) chunk.push(packet(0x31, text(`r/${i}/x`), none, 'x'))
      await client.write(Buffer.concat(chunk))
    }
    await client.write(PING)
    for (let found = await client.next(); found !== null && found[0] !== 0xd0; )
      found = await client.next()
    const told = await many(100, 1, async index => {
      if (client.isClosed) return 'closed'
      await client.write(packet(0x33, text(`more/${index}`), [0, 1], none, 'x'))
      const answer = await client.next()
      return answer === null ? 'closed' : answer.toString('hex')
    })
    return tally(told)
  },

  /** Filters with wildcards of one client, a thousand a packet; then publishes by another that they might match. */
  async filters(count, version) {
    const client = new Client()
    await client.connect(Number(version), 'filters')
    const none = version === '5' ? [0] : []
    const codes = []
    for (let at = 0; at < Number(count); at += 1_000) {
      const list = []
      for (let i = at; i < at + 1_000; i++) list.push(text(`+/+/+/+/${i}`), [0])
      await client.write(packet(0x82, [0, 1], none, ...list))
      const suback = await client.next()
      if (suback === null) break
      for (const each of suback.subarray(suback.length - 1_000))
        codes.push(`0x${each.toString(16)}`)
    }
    return tally(codes)
  },

  /** Filters that all match in many ways, and a deep topic published often. */
  async matches(levels, publishes) {
    const client = new Client()
    await client.connect(4, 'matches')
    const deep = Number(levels)
    const list = []
    const filters = ['#', 'a/#', 'a/+/#', '+/+/#', '+/#', '+/a/+/#', 'a/+/a/+/#']
    for (let i = 1; i < deep; i += 8) {
      filters.push(`${'+/'.repeat(i)}#`, `${'a/'.repeat(i)}#`, `${'a/+/'.repeat(i >> 1)}#`)
    }
    for (const filter of filters) list.push(text(filter), [0])
    await client.write(packet(0x82, [0, 1], ...list))
    await client.next()
    const publisher = new Client()
    await publisher.connect(4, 'deep')
    for (let i = 0; i < Number(publishes); i++) {
      // Another topic each time: no route is remembered.
      const topic = `${'a/'.repeat(deep - 2)}${i}/a`
      await publisher.write(packet(0x30, text(topic), 'x'))
    }
    await publisher.write(PING)
    await publisher.next()
    await client.write(PING)
    let received = 0
    for (let found = await client.next(); found !== null && found[0] !== 0xd0; ) {
      // Not the witness's, which `#` brings too.
      if (found.includes('a/a/')) received++
      found = await client.next()
    }
    return { filters: filters.length, received }
  },

  /** Two clients with one id, which come back whenever they are cut off, so often a second in all. */
  async takeovers(seconds, perSecond, version) {
    const ends = []
    let present = 0
    const five = version === '5'
    const properties = five ? [0x11, 0, 0, 1, 0] : []
    const loop = async offset => {
      const pauseMs = 2_000 / Number(perSecond)
      await new Promise(resolve => setTimeout(resolve, (offset * pauseMs) / 2))
      for (let i = 0; i < (Number(seconds) * Number(perSecond)) / 2; i++) {
        const client = new Client()
        const connack = await client.connect(Number(version), 'takeover', { flags: 0, properties })
        if (connack === null || connack[3] !== 0) {
          ends.push(connack === null ? 'no CONNACK' : code(connack))
        } else {
          present += connack[2]
          // Subscribing and unsubscribing on top.
          await client.write(packet(0x82, [0, 1], five ? [0] : [], text('taken/#'), [1]))
          await client.write(packet(0xa2, [0, 2], five ? [0] : [], text('taken/x')))
          void client.closed().then(() => {
            const last = client.packets.pop()
            ends.push(last === undefined ? 'closed' : last.toString('hex'))
          })
        }
        await new Promise(resolve => setTimeout(resolve, pauseMs))
      }
    }
    await Promise.all([loop(0), loop(1)])
    return { present, ...tally(ends) }
  }
}

/** What comes back of what it publishes to itself, and how late at most. */
async function watch(report) {
  const client = new Client()
  await client.connect(4, 'witness')
  await client.write(packet(0x82, [0, 1], text('witness'), [0]))
  await client.next()
  while (!report.isOver) {
    const startedAt = performance.now()
    await client.write(packet(0x30, text('witness'), String(report.sent++)))
    const answer = await client.next()
    if (answer === null) break
    report.answered++
    report.latestMs = Math.max(report.latestMs, performance.now() - startedAt)
    await new Promise(resolve => setTimeout(resolve, WITNESS_EVERY_MS))
  }
  client.socket.destroy()
}

const witness = { sent: 0, answered: 0, latestMs: 0, isOver: false }
const watching = watch(witness)
const result = await FLOODS[name](...words)
witness.isOver = true
await watching
process.stdout.write(`${JSON.stringify({ result, witness })}\n`)
process.stdin.on('end', () => process.exit(0)).resume()
