/** Conversations of MQTT clients, 3.1, 3.1.1 and 5: right in form, and nearly always in order. */
import { between, type Random } from './random.ts'
import { EVENTS, happens, type Step, sends } from './fuzz-case.ts'
import { chance, pick, type Piece, randomBytes, Sketch } from './fuzz-sketch.ts'

const TOPICS = [
  'a',
  'a',
  'a',
  'a/b',
  'a/b',
  'a/b',
  'w/a',
  'w/a',
  'w/b',
  'w',
  '/',
  'a/b/c/d',
  'ä/€',
  'amq/q'
]
const ODD_TOPICS = ['$SYS/a', 'x/'.repeat(9), '', 'a+', '#']
const FILTERS = [
  'a',
  'a/+',
  '#',
  '+/b',
  'w/#',
  'a/#',
  '+',
  'a/b',
  '$SYS/#',
  '$share/g/a',
  'a#',
  'ä/+'
]
const CLIENT_IDS = [
  ...Array(12).fill('c'),
  'd',
  'd',
  '',
  '',
  'client-of-more-than-thirty-two-bytes'
]
const REASONS = [
  ...Array(12).fill(0),
  0x04,
  0x10,
  0x80,
  0x83,
  0x87,
  0x91,
  0x92,
  0x97,
  0x99,
  0x93,
  0xff
]

function topic(random: Random): string {
  return pick(random, chance(random, 0.98) ? TOPICS : ODD_TOPICS)
}

function text(random: Random): string {
  if (chance(random, 0.02)) return 'a\u0000b'
  return pick(random, ['', 'x', 'ä€𝄞', 'text/plain', 'k'.repeat(200)])
}

function packet(first: number, write: (body: Sketch) => void): Piece {
  return new Sketch().byte(first).block(0, write).piece()
}

/** Some properties; `ids` are those that fit. */
function properties(random: Random, body: Sketch, version: number, ids: readonly number[]): void {
  if (version < 5) return
  body.block(0, inner => {
    const count = chance(random, 0.7) ? 0 : between(random, 1, 3)
    for (let i = 0; i < count; i++)
      property(random, inner, chance(random, 0.97) ? pick(random, ids) : between(random, 0, 0x2b))
  })
}

const SECONDS = [0, 1, 5, 60, 200, 10_000, 2 ** 32 - 1]
const PACKET_SIZES = [4, 20, 30, 100, 10_000]

function property(random: Random, to: Sketch, id: number): void {
  to.byte(id)
  switch (id) {
    case 0x01:
    case 0x17:
    case 0x19:
      to.number(1, between(random, 0, 1))
      return
    case 0x21:
    case 0x22:
    case 0x23:
      to.number(2, pick(random, [1, 2, 3, 10, 65_535]))
      return
    case 0x02:
    case 0x11:
    case 0x18:
    case 0x27:
      to.number(4, pick(random, id === 0x27 ? PACKET_SIZES : SECONDS))
      return
    case 0x0b:
      to.block(0, inner => inner.raw(Buffer.alloc(pick(random, [1, 1, 2, 127]))))
      return
    case 0x26:
      to.sized(2, text(random)).sized(2, text(random))
      return
    case 0x08:
      to.sized(2, topic(random))
      return
    default:
      to.sized(2, text(random))
  }
}

const CONNECT_IDS = [0x11, 0x11, 0x11, 0x11, 0x21, 0x21, 0x22, 0x27, 0x17, 0x19, 0x26]
const WILL_IDS = [0x18, 0x18, 0x01, 0x02, 0x03, 0x08, 0x09, 0x26]
const PUBLISH_IDS = [0x23, 0x23, 0x01, 0x02, 0x02, 0x03, 0x08, 0x09, 0x26]

export function connect(random: Random, version: number): Piece {
  const hasWill = chance(random, 0.3)
  const hasUser = chance(random, 0.3)
  const hasPassword = hasUser && chance(random, 0.8)
  const flags =
    (chance(random, 0.5) ? 2 : 0) |
    (hasWill ? 4 | (between(random, 0, 2) << 3) | (chance(random, 0.3) ? 32 : 0) : 0) |
    (hasPassword ? 64 : 0) |
    (hasUser ? 128 : 0)
  return packet(0x10, body => {
    const level = version | (version < 5 && chance(random, 0.05) ? 0x80 : 0)
    body
      .sized(2, version === 3 ? 'MQIsdp' : 'MQTT')
      .number(1, level)
      .number(1, flags)
    body.number(2, pick(random, [0, 0, 1, 10, 60, 65_535]))
    properties(random, body, version, CONNECT_IDS)
    body.sized(2, pick(random, CLIENT_IDS))
    if (hasWill) {
      properties(random, body, version, WILL_IDS)
      body.sized(2, topic(random)).sized(2, randomBytes(random, 10))
    }
    if (hasUser)
      body.sized(2, chance(random, 0.8) ? 'any' : pick(random, ['other', 'limited', 'bad', 'busy']))
    if (hasPassword) body.sized(2, 'secret')
  })
}

export function publish(random: Random, version: number, id: number): Piece {
  const qos = between(random, 0, 2)
  const dup = qos > 0 && chance(random, 0.1) ? 8 : 0
  const first = 0x30 | dup | (qos << 1) | (chance(random, 0.2) ? 1 : 0)
  return packet(first, body => {
    // An alias alone, which is seldom known.
    body.sized(2, version === 5 && chance(random, 0.1) ? '' : topic(random))
    if (qos > 0) body.number(2, id)
    properties(random, body, version, PUBLISH_IDS)
    const bytes = chance(random, 0.9) ? between(random, 0, 20) : pick(random, [100, 500, 3_000])
    body.raw(chance(random, 0.1) ? Buffer.alloc(0) : Buffer.alloc(bytes, 0x61 + (id & 15)))
  })
}

export function acknowledge(random: Random, version: number, first: number, id: number): Piece {
  return packet(first, body => {
    body.number(2, id)
    if (version < 5 || chance(random, 0.6)) return
    body.number(1, pick(random, REASONS))
    if (chance(random, 0.5)) properties(random, body, version, [0x1f, 0x26])
  })
}

function subscribe(random: Random, version: number, id: number): Piece {
  return packet(0x82, body => {
    body.number(2, id)
    properties(random, body, version, [0x0b, 0x26])
    for (let i = between(random, 1, 3); i > 0; i--) {
      const options =
        between(random, 0, 2) | (version === 5 ? pick(random, [0, 4, 8, 16, 32, 12]) : 0)
      body.sized(2, pick(random, FILTERS)).number(1, options)
    }
  })
}

function unsubscribe(random: Random, version: number, id: number): Piece {
  return packet(0xa2, body => {
    body.number(2, id)
    properties(random, body, version, [0x26])
    for (let i = between(random, 1, 2); i > 0; i--) body.sized(2, pick(random, FILTERS))
  })
}

function disconnect(random: Random, version: number): Piece {
  return packet(0xe0, body => {
    if (version < 5 || chance(random, 0.5)) return
    body.number(1, pick(random, REASONS))
    if (chance(random, 0.6)) properties(random, body, version, [0x11, 0x1f, 0x26])
  })
}

/** What nobody should send here. */
function odd(random: Random, version: number): Piece {
  switch (between(random, 0, 3)) {
    case 0:
      return connect(random, version)
    case 1:
      return packet(pick(random, [0x20, 0x90, 0xb0, 0xd0]), body =>
        body.raw(randomBytes(random, 4))
      )
    case 2:
      return packet(0xf0, body => {
        body.number(1, pick(random, [0, 0x18, 0x19]))
        properties(random, body, 5, [0x15, 0x16, 0x1f, 0x26])
      })
    default:
      return { bytes: randomBytes(random, 12), marks: [] }
  }
}

function anyPacket(random: Random, version: number): Piece {
  // Deliveries have the identifiers 2, 3, … : the broker's first ones of a session.
  const id = chance(random, 0.95) ? between(random, 1, 6) : pick(random, [0, 255, 256, 65_535])
  const what = random()
  if (what < 0.35) return publish(random, version, id)
  if (what < 0.5) return subscribe(random, version, id)
  if (what < 0.55) return unsubscribe(random, version, id)
  if (what < 0.83)
    return acknowledge(random, version, pick(random, [0x40, 0x40, 0x50, 0x62, 0x62, 0x70]), id)
  if (what < 0.94) return packet(0xc0, () => undefined)
  if (what < 0.97) return disconnect(random, version)
  return odd(random, version)
}

/** One conversation, of one client, seldom of two or three. */
export function mqttSteps(random: Random): Step[] {
  const steps: Step[] = []
  const clients = chance(random, 0.7) ? 1 : between(random, 2, 3)
  const versions: number[] = []
  for (let peer = 0; peer < clients; peer++) {
    const version = pick(random, [3, 4, 4, 5, 5, 5])
    versions.push(version)
    steps.push(sends(peer, connect(random, version)))
    if (chance(random, 0.6)) steps.push(happens(peer, 'turn'))
    const most = chance(random, 0.93) ? between(random, 0, 8) : between(random, 10, 30)
    for (let count = most; count > 0; count--) {
      const from = chance(random, 0.8) ? peer : between(random, 0, peer)
      steps.push(sends(from, anyPacket(random, versions[from]!)))
      const what = random()
      if (what < 0.4) steps.push(happens(from, 'turn'))
      else if (what < 0.46) steps.push(happens(from, pick(random, EVENTS)))
    }
    if (chance(random, 0.3)) steps.push(happens(peer, pick(random, ['cut', 'hang-up'])))
  }
  return steps
}
