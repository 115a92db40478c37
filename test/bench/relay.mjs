// The smallest thing that relays MQTT on Node: read, find the frame, look the topic up, copy to the receivers, one write a socket and turn.
// No checks, no sessions, no properties, no QoS 2: the ceiling to measure against, not a broker. node relay.mjs PORT
import net from 'node:net'

const exact = new Map() // topic → connections
const all = [] // subscribers of a filter that ends in '#'
const readBuffer = Buffer.allocUnsafeSlow(65536)
const ack = Buffer.alloc(4)
let dirty = []
let scheduled = false

function flush() {
  scheduled = false
  const list = dirty
  dirty = []
  for (const c of list) {
    c.dirty = false
    if (c.end === c.start || c.socket.destroyed) continue
    c.socket.write(c.buffer.subarray(c.start, c.end))
    c.start = c.end
    if (c.buffer.length - c.end < 16384) {
      c.buffer = Buffer.allocUnsafeSlow(65536)
      c.start = c.end = 0
    }
  }
}

function send(c, source, from, to) {
  const n = to - from
  if (c.buffer.length - c.end < n) {
    if (c.end > c.start) c.socket.write(c.buffer.subarray(c.start, c.end))
    c.buffer = Buffer.allocUnsafeSlow(Math.max(65536, n))
    c.start = c.end = 0
  }
  source.copy(c.buffer, c.end, from, to)
  c.end += n
  if (!c.dirty) {
    c.dirty = true
    dirty.push(c)
    if (!scheduled) {
      scheduled = true
      setImmediate(flush)
    }
  }
}

function onBytes(c, chunk) {
  const b = c.rest ? Buffer.concat([c.rest, chunk]) : chunk
  c.rest = null
  let at = 0
  while (at + 2 <= b.length) {
    let head = 1,
      length = 0,
      shift = 0,
      whole = false
    while (at + head < b.length && head <= 4) {
      const d = b[at + head++]
      length |= (d & 127) << shift
      shift += 7
      if (d < 128) {
        whole = true
        break
      }
    }
    const body = at + head,
      end = body + length
    if (!whole || end > b.length) break
    const type = b[at] >> 4
    if (type === 3) {
      const topicEnd = body + 2 + ((b[body] << 8) | b[body + 1])
      if (((b[at] >> 1) & 3) === 1) {
        ack[0] = 0x40
        ack[1] = 2
        ack[2] = b[topicEnd]
        ack[3] = b[topicEnd + 1]
        send(c, ack, 0, 4)
      }
      const list = exact.get(b.latin1Slice(body + 2, topicEnd))
      if (list) for (const to of list) send(to, b, at, end)
      for (const to of all) send(to, b, at, end)
    } else if (type === 1) send(c, Buffer.from([0x20, 2, 0, 0]), 0, 4)
    else if (type === 8) {
      const filter = b.latin1Slice(body + 4, body + 4 + ((b[body + 2] << 8) | b[body + 3]))
      const list = filter.endsWith('#')
        ? all
        : (exact.get(filter) ?? exact.set(filter, []).get(filter))
      list.push(c)
      c.lists.push(list)
      send(c, Buffer.from([0x90, 3, b[body], b[body + 1], b[end - 1]]), 0, 5)
    }
    at = end
  }
  if (at < b.length) c.rest = Buffer.from(b.subarray(at))
}

net
  .createServer({ noDelay: true, pauseOnConnect: true }, accepted => {
    const c = {
      socket: null,
      buffer: Buffer.allocUnsafeSlow(16384),
      start: 0,
      end: 0,
      dirty: false,
      rest: null,
      lists: []
    }
    const handle = accepted._handle
    accepted._handle = null
    c.socket = new net.Socket({
      handle,
      onread: {
        buffer: readBuffer,
        callback: (n, buffer) => {
          onBytes(c, buffer.subarray(0, n))
          return true
        }
      }
    })
    c.socket.on('error', () => {})
    c.socket.on('close', () => {
      for (const list of c.lists) list.splice(list.indexOf(c), 1)
    })
    c.socket.resume()
  })
  .listen(Number(process.argv[2]), '127.0.0.1')
