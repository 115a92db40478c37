/** Conversations of AMQP clients: right in form, and nearly always in order. */
import { encodeProperties } from '../../src/amqp/properties.ts'
import type { FieldValue } from '../../src/core/field-table.ts'
import { MessageProperties } from '../../src/core/properties.ts'
import { between, type Random } from './random.ts'
import { EVENTS, happens, type Step, sends } from './fuzz-case.ts'
import { chance, edge, pick, type Piece, randomBytes, Sketch } from './fuzz-sketch.ts'

const QUEUES = [
  'q',
  'q',
  'q',
  'q',
  'q',
  '',
  '',
  'r',
  'durable',
  'amq.q',
  'amq.rabbitmq.reply-to',
  'n'.repeat(255)
]
const EXCHANGES = [
  '',
  '',
  '',
  '',
  '',
  'amq.topic',
  'amq.topic',
  'amq.direct',
  'amq.fanout',
  'amq.headers',
  'e',
  'none'
]
const KEYS = [
  'q',
  'q',
  'r',
  'durable',
  'w.a',
  'a.b',
  '#',
  '*.b',
  'w/a',
  '',
  'amq.rabbitmq.reply-to.x',
  'ä'
]
const KINDS = [
  'direct',
  'fanout',
  'topic',
  'headers',
  'x-delayed-message',
  'x-consistent-hash',
  'odd'
]
const TAGS = ['t', 't', 'u', '']
const ARGUMENTS = [
  'x-max-length',
  'x-max-length-bytes',
  'x-overflow',
  'x-match',
  'x-priority',
  'x-message-ttl',
  'x-expires',
  'x-dead-letter-exchange',
  'x-dead-letter-routing-key',
  'x-dead-letter-strategy',
  'x-max-priority',
  'x-single-active-consumer',
  'x-delivery-limit',
  'x-consumer-timeout',
  'x-queue-type',
  'x-message-deduplication',
  'x-delayed-type',
  'alternate-exchange',
  'k'
]
const TEXTS = [
  'reject-publish',
  'reject-publish-dlx',
  'drop-head',
  'all',
  'any',
  'q',
  'r',
  'e',
  'amq.fanout',
  'classic',
  'quorum',
  'topic',
  'at-least-once',
  ''
]
const HEADER = Buffer.from('AMQP\0\0\x09\x01', 'latin1')

function frame(type: number, channel: number, write: (payload: Sketch) => void): Piece {
  const sketch = new Sketch().byte(type).number(2, channel).block(4, write)
  return sketch.byte(0xce).piece()
}

function method(channel: number, classId: number, id: number, write: (to: Sketch) => void): Piece {
  return frame(1, channel, payload => {
    payload.number(2, classId).number(2, id)
    write(payload)
  })
}

const nothing = () => undefined

/** A field table, nested at times. */
function table(random: Random, to: Sketch, depth = 0): void {
  to.block(4, inner => {
    const count = chance(random, 0.9) ? 0 : between(random, 1, 3)
    for (let i = 0; i < count; i++) {
      inner.sized(1, pick(random, ARGUMENTS))
      value(random, inner, depth)
    }
  })
}

function value(random: Random, to: Sketch, depth: number): void {
  const type = pick(random, [...'tbBsuIilfdDSTVxAFSIS'])
  to.byte(type.charCodeAt(0))
  switch (type) {
    case 't':
    case 'b':
    case 'B':
      to.number(1, between(random, 0, 2))
      return
    case 's':
    case 'u':
      to.number(2, between(random, 0, 20))
      return
    case 'I':
    case 'i':
      to.number(4, chance(random, 0.8) ? between(random, 0, 5) : edge(random))
      return
    case 'f':
      to.raw(randomBytes(random, 0)).number(4, 0x3f800000)
      return
    case 'l':
    case 'd':
    case 'T':
      to.number(8, between(random, 0, 10))
      return
    case 'D':
      to.number(1, 2).number(4, 150)
      return
    case 'V':
      return
    case 'A':
      to.block(4, inner => {
        for (let i = between(random, 0, 2); i > 0 && depth < 4; i--) value(random, inner, depth + 1)
      })
      return
    case 'F':
      if (depth < 4) table(random, to, depth + 1)
      else to.number(4, 0)
      return
    default:
      to.sized(4, pick(random, TEXTS))
  }
}

function startOk(random: Random): Piece {
  return method(0, 10, 11, to => {
    to.block(4, properties => {
      if (chance(random, 0.3)) return
      properties.sized(1, 'capabilities').byte(0x46)
      properties.block(4, flags => {
        for (const name of [
          'consumer_cancel_notify',
          'connection.blocked',
          'authentication_failure_close'
        ]) {
          if (chance(random, 0.8)) flags.sized(1, name).byte(0x74).number(1, 1)
        }
      })
    })
    const user = chance(random, 0.93) ? 'any' : pick(random, ['other', 'limited', 'bad'])
    const isPlain = chance(random, 0.97)
    to.sized(1, isPlain ? 'PLAIN' : pick(random, ['AMQPLAIN', 'EXTERNAL']))
    if (isPlain) to.sized(4, `\0${user}\0secret`)
    else {
      to.block(4, response => {
        response.sized(1, 'LOGIN').byte(0x53).sized(4, user)
        response.sized(1, 'PASSWORD').byte(0x53).sized(4, 'secret')
      })
    }
    to.sized(1, 'en_US')
  })
}

/** From the protocol header to connection.open; seldom out of order. */
function handshake(random: Random): Piece[] {
  const header = chance(random, 0.98) ? HEADER : Buffer.from('AMQP\x01\x01\0\x09', 'latin1')
  const heartbeat = pick(random, [0, 0, 0, 1, 10])
  const pieces: Piece[] = [
    { bytes: header, marks: [] },
    startOk(random),
    method(0, 10, 31, to => {
      to.number(2, pick(random, [4, 4, 1])).number(4, pick(random, [8_192, 4_096, 5_000]))
      to.number(2, heartbeat)
    }),
    method(0, 10, 40, to =>
      to
        .sized(1, chance(random, 0.98) ? '/' : 'none')
        .sized(1, '')
        .number(1, 0)
    )
  ]
  return pieces
}

function flags(random: Random, count: number, probability = 0.3): number {
  let bits = 0
  for (let i = 0; i < count; i++) if (chance(random, probability)) bits |= 1 << i
  return bits
}

/** Flags whose last is no-wait. */
function waitFlags(random: Random, count: number, isSet = 0.2): number {
  return flags(random, count) | (chance(random, isSet) ? 1 << count : 0)
}

/** One request on a channel; a publish is several frames. */
function request(random: Random, channel: number): Piece[] {
  const queue = pick(random, QUEUES)
  const what = random()
  if (what < 0.28) return publish(random, channel)
  if (what < 0.4) {
    return [
      method(channel, 50, 10, to => {
        to.number(2, 0)
          .sized(1, queue)
          .number(1, chance(random, 0.7) ? 0 : waitFlags(random, 4))
        table(random, to)
      })
    ]
  }
  if (what < 0.46) {
    return [
      method(channel, 50, 20, to => {
        to.number(2, 0)
          .sized(1, queue)
          .sized(1, pick(random, EXCHANGES))
          .sized(1, pick(random, KEYS))
        to.number(1, waitFlags(random, 0))
        table(random, to)
      })
    ]
  }
  if (what < 0.6) {
    return [
      method(channel, 60, 20, to => {
        to.number(2, 0).sized(1, queue).sized(1, pick(random, TAGS)).number(1, waitFlags(random, 3))
        table(random, to)
      })
    ]
  }
  if (what < 0.7) return [settle(random, channel)]
  if (what < 0.8)
    return [
      method(channel, 60, 70, to => to.number(2, 0).sized(1, queue).number(1, flags(random, 1)))
    ]
  if (what < 0.84) {
    return [
      method(channel, 60, 10, to => {
        to.number(4, chance(random, 0.95) ? 0 : 1)
          .number(2, between(random, 0, 3))
          .number(1, flags(random, 1))
      })
    ]
  }
  if (what < 0.92) return [method(channel, 85, 10, to => to.number(1, flags(random, 1)))]
  return [seldom(random, channel, queue)]
}

function settle(random: Random, channel: number): Piece {
  const tag = chance(random, 0.97) ? between(random, 0, 3) : edge(random)
  switch (between(random, 0, 3)) {
    case 0:
      return method(channel, 60, 90, to => to.number(8, tag).number(1, flags(random, 1)))
    case 1:
      return method(channel, 60, 120, to => to.number(8, tag).number(1, flags(random, 2)))
    default:
      return method(channel, 60, 80, to => to.number(8, tag).number(1, flags(random, 1)))
  }
}

function seldom(random: Random, channel: number, queue: string): Piece {
  const exchange = pick(random, EXCHANGES)
  switch (between(random, 0, 15)) {
    case 0:
      return method(channel, 40, 10, to => {
        to.number(2, 0)
          .sized(1, exchange)
          .sized(1, pick(random, KINDS))
          .number(1, waitFlags(random, 4))
        table(random, to)
      })
    case 1:
      return method(channel, 40, 20, to =>
        to.number(2, 0).sized(1, exchange).number(1, waitFlags(random, 1))
      )
    case 2:
    case 3:
      return method(channel, 40, pick(random, [30, 40]), to => {
        to.number(2, 0).sized(1, pick(random, EXCHANGES)).sized(1, exchange)
        to.sized(1, pick(random, KEYS)).number(1, waitFlags(random, 0))
        table(random, to)
      })
    case 4:
      return method(channel, 50, 50, to => {
        to.number(2, 0).sized(1, queue).sized(1, exchange).sized(1, pick(random, KEYS))
        table(random, to)
      })
    case 5:
      return method(channel, 50, 30, to =>
        to.number(2, 0).sized(1, queue).number(1, waitFlags(random, 0))
      )
    case 6:
      return method(channel, 50, 40, to =>
        to.number(2, 0).sized(1, queue).number(1, waitFlags(random, 2))
      )
    case 7:
      return method(channel, 60, 30, to =>
        to.sized(1, pick(random, TAGS)).number(1, waitFlags(random, 0))
      )
    case 8:
      return method(channel, 60, pick(random, [100, 110]), to =>
        to.number(1, chance(random, 0.9) ? 1 : 0)
      )
    case 9:
      return method(channel, 20, pick(random, [10, 20, 21, 41]), to => to.number(1, 1))
    case 10:
      return method(channel, 20, 40, to =>
        to.number(2, 200).sized(1, 'bye').number(2, 0).number(2, 0)
      )
    case 11:
      return method(0, 10, 70, to => to.sized(4, 'secret').sized(1, 'renewed'))
    case 12:
    case 13:
      return method(channel, 90, pick(random, [10, 10, 20, 20, 30]), nothing)
    case 14:
      return method(channel, pick(random, [90, 60, 30, 99]), between(random, 0, 130), nothing)
    default:
      return frame(pick(random, [8, 8, 4, 3]), pick(random, [0, channel]), nothing)
  }
}

/** A header that the broker acts upon, or writes itself. */
function noted(random: Random): [string, FieldValue] {
  switch (between(random, 0, 3)) {
    case 0:
      return ['x-delay', { type: 'I', value: pick(random, [0, 1, 1_000, -1, 0x7fffffff]) }]
    case 1:
      return ['x-deduplication-header', { type: 'S', value: pick(random, ['1', '2']) }]
    case 2:
      return ['x-death', { type: 'A', value: [{ type: 'F', value: [] }] }]
    default:
      return ['x-death', { type: 'S', value: 'none' }]
  }
}

function publish(random: Random, channel: number): Piece[] {
  const body = Buffer.alloc(
    chance(random, 0.98) ? between(random, 0, 40) : pick(random, [4_088, 4_096, 9_000]),
    0x62
  )
  const properties = new MessageProperties()
  if (chance(random, 0.4)) properties.deliveryMode = pick(random, [1, 2, 2])
  if (chance(random, 0.1)) properties.expiration = pick(random, ['0', '5000', '-1', 'x'])
  if (chance(random, 0.1)) properties.contentType = 'text/plain'
  if (chance(random, 0.1))
    properties.responseTopic = pick(random, ['a/b', 'a/b', 'amq.rabbitmq.reply-to'])
  if (chance(random, 0.1)) properties.priority = pick(random, [0, 1, 9, 255])
  if (chance(random, 0.05)) properties.userId = pick(random, ['any', 'any', 'any', 'other'])
  if (chance(random, 0.1)) {
    const name = pick(random, ['CC', 'BCC', 'k', 'x-match'])
    const copies = [{ type: 'S', value: pick(random, KEYS) } as const]
    properties.headers = [[name, { type: 'A', value: copies }]]
  }
  if (chance(random, 0.05)) properties.headers = [noted(random)]
  const bytes = encodeProperties(properties)
  const pieces = [
    method(channel, 60, 40, to => {
      to.number(2, 0)
      if (chance(random, 0.6)) to.sized(1, '').sized(1, 'q')
      else to.sized(1, pick(random, EXCHANGES)).sized(1, pick(random, KEYS))
      to.number(1, flags(random, 1) | (chance(random, 0.01) ? 2 : 0))
    }),
    frame(2, channel, to => to.number(2, 60).number(2, 0).number(8, body.length).raw(bytes))
  ]
  const most = chance(random, 0.8) ? 4_000 : between(random, 1, 20)
  for (let at = 0; at < body.length; at += Math.max(most, body.length >> 3)) {
    pieces.push(
      frame(3, channel, to => to.raw(body.subarray(at, at + Math.max(most, body.length >> 3))))
    )
  }
  return pieces
}

/** One conversation, of one client, seldom of two. */
export function amqpSteps(random: Random): Step[] {
  const steps: Step[] = []
  const clients = chance(random, 0.8) ? 1 : 2
  for (let peer = 0; peer < clients; peer++) {
    for (const piece of handshake(random)) {
      steps.push(sends(peer, piece))
      if (chance(random, 0.3)) steps.push(happens(peer, 'turn'))
    }
    for (let channel = chance(random, 0.8) ? 1 : 2; channel > 0; channel--) {
      steps.push(
        sends(
          peer,
          method(channel, 20, 10, to => to.sized(1, ''))
        )
      )
    }
    if (chance(random, 0.6)) {
      steps.push(
        sends(
          peer,
          method(1, 50, 10, to => {
            to.number(2, 0)
              .sized(1, pick(random, ['q', 'q', 'durable']))
              .number(1, chance(random, 0.6) ? 0 : flags(random, 4))
              .number(4, 0)
          })
        )
      )
    }
    if (chance(random, 0.4)) {
      steps.push(
        sends(
          peer,
          method(1, 60, 20, to => {
            to.number(2, 0)
              .sized(1, '')
              .sized(1, 't')
              .number(1, chance(random, 0.2) ? 2 : 0)
            to.number(4, 0)
          })
        )
      )
    }
    const most = chance(random, 0.93) ? between(random, 0, 9) : between(random, 10, 30)
    for (let count = most; count > 0; count--) {
      const from = chance(random, 0.85) ? peer : between(random, 0, peer)
      const channel = chance(random, 0.93) ? 1 : between(random, 0, 3)
      for (const piece of request(random, channel)) steps.push(sends(from, piece))
      const what = random()
      if (what < 0.4) steps.push(happens(from, 'turn'))
      else if (what < 0.46) steps.push(happens(from, pick(random, EVENTS)))
    }
    if (chance(random, 0.3)) steps.push(close(random, peer))
  }
  return steps
}

function close(random: Random, peer: number): Step {
  if (chance(random, 0.4)) return happens(peer, pick(random, ['cut', 'hang-up']))
  return sends(
    peer,
    method(0, 10, pick(random, [50, 50, 51]), to => {
      to.number(2, 200).sized(1, 'bye').number(2, 0).number(2, 0)
    })
  )
}
