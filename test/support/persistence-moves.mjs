/**
 * Calls of a persistence that follow from a seed, and what must be seen of them afterwards. A lane has clients
 * and topics of its own, and makes one call after the other: of all its calls at most the last is undecided.
 * The model is aedes-persistence's own store in memory.
 */

function random(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export const METHODS = [
  'storeRetained',
  'addSubscriptions',
  'removeSubscriptions',
  'cleanSubscriptions',
  'outgoingEnqueue',
  'outgoingEnqueueCombi',
  'outgoingUpdate',
  'outgoingClearMessageId',
  'incomingStorePacket',
  'incomingDelPacket',
  'cleanIncoming',
  'putWill',
  'delWill'
]

const WEIGHTS = [8, 4, 3, 1, 14, 8, 14, 12, 8, 6, 1, 4, 4]

/** What was queued for a client and not cleared. */
class Queued {
  packets = []
  nextId = 1
}

/** The calls of a lane, without end. */
export function* moves(seed, lane) {
  const next = random(seed * 31 + lane * 1013 + 7)
  const below = max => Math.floor(next() * max)
  const clients = [`lane${lane}-a`, `lane${lane}-b`]
  const queued = new Map(clients.map(id => [id, new Queued()]))
  const incoming = new Map(clients.map(id => [id, new Set()]))
  let counter = 0
  const payload = () => {
    const bytes = next() < 0.03 ? 30_000 + below(60_000) : below(200) + 1
    return Buffer.alloc(bytes, `${lane}.${++counter}.`)
  }
  const total = WEIGHTS.reduce((sum, weight) => sum + weight, 0)
  const choose = () => {
    let at = below(total)
    return METHODS.find((_, i) => (at -= WEIGHTS[i]) < 0)
  }
  const packet = () => ({
    cmd: 'publish',
    topic: `t/${lane}/${below(9)}`,
    payload: payload(),
    qos: 1 + below(2),
    retain: false,
    dup: false,
    brokerId: 'model',
    brokerCounter: ++counter * 16 + lane,
    ...(next() < 0.2 ? { properties: { userProperties: { a: ['b', 'c'] }, contentType: 'x' } } : {})
  })
  const enqueue = ids => {
    const it = packet()
    for (const id of ids) queued.get(id).packets.push({ ...it, messageId: 0, isReleased: false })
    return it
  }
  const make = {
    storeRetained: () => [
      {
        cmd: 'publish',
        topic: `r/${lane}/${below(12)}`,
        qos: 1,
        retain: true,
        payload: next() < 0.25 ? Buffer.alloc(0) : payload()
      }
    ],
    addSubscriptions: id => [
      { id },
      Array.from({ length: 1 + below(3) }, () => ({
        topic: `s/${below(8)}/+`,
        qos: below(3),
        rh: below(3),
        rap: next() < 0.5,
        nl: false
      }))
    ],
    removeSubscriptions: id => [{ id }, [`s/${below(8)}/+`, `s/${below(8)}/+`]],
    cleanSubscriptions: id => [{ id }],
    outgoingEnqueue: id => [{ clientId: id }, enqueue([id])],
    outgoingEnqueueCombi: () => [clients.map(clientId => ({ clientId })), enqueue(clients)],
    outgoingUpdate: id => {
      const of = queued.get(id)
      const open = of.packets.filter(({ isReleased }) => !isReleased)
      if (open.length === 0) return null
      const it = open[below(Math.min(open.length, 6))]
      if (it.messageId > 0 && it.qos === 2) {
        it.isReleased = true
        return [{ id }, { cmd: 'pubrel', messageId: it.messageId }]
      }
      it.messageId = of.nextId++
      const { isReleased: _, ...rest } = it
      return [{ id }, rest]
    },
    outgoingClearMessageId: id => {
      const of = queued.get(id)
      const given = of.packets.filter(({ messageId }) => messageId > 0)
      if (given.length === 0) return null
      const { messageId } = given[below(given.length)]
      of.packets = of.packets.filter(other => other.messageId !== messageId)
      return [{ id }, { cmd: 'puback', messageId }]
    },
    incomingStorePacket: id => {
      const messageId = 1 + below(20)
      incoming.get(id).add(messageId)
      return [{ id }, { ...packet(), qos: 2, messageId }]
    },
    incomingDelPacket: id => {
      const messageId = [...incoming.get(id)][0]
      if (messageId === undefined) return null
      incoming.get(id).delete(messageId)
      return [{ id }, { cmd: 'pubrel', messageId }]
    },
    cleanIncoming: id => {
      incoming.get(id).clear()
      return [{ id }]
    },
    putWill: id => [
      { id },
      { topic: `w/${lane}`, payload: payload(), qos: below(3), retain: next() < 0.5 }
    ],
    delWill: id => [{ id }]
  }
  for (;;) {
    const method = choose()
    const args = make[method](clients[below(clients.length)])
    if (args !== null) yield { method, args }
  }
}

/** Makes a call; the model in memory takes every PUBREL without a broker id for the same packet. */
export function call(persistence, { method, args }, isModel = false) {
  const [first, second] = args
  if (isModel && second?.cmd === 'pubrel') {
    return persistence[method](first, {
      ...second,
      brokerId: 'pubrel',
      brokerCounter: second.messageId
    })
  }
  return persistence[method](
    first,
    Array.isArray(second) || second === undefined ? second : { ...second }
  )
}

function plain(packet) {
  if (packet === undefined) return null
  if (packet.cmd === 'pubrel') return { cmd: 'pubrel', messageId: packet.messageId }
  const { messageId, payload, ...rest } = packet
  const sorted = Object.fromEntries(Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)))
  return { ...sorted, messageId: messageId ?? 0, payload: payload?.toString('latin1') }
}

/** All that can be seen of a lane, as text. */
export async function dump(persistence, lane) {
  const lines = []
  const retained = await persistence.createRetainedStream(`r/${lane}/#`).toArray()
  retained.sort((a, b) => (a.topic < b.topic ? -1 : 1))
  for (const packet of retained) lines.push(['retained', plain(packet)])
  for (const id of [`lane${lane}-a`, `lane${lane}-b`]) {
    for (const it of await persistence.subscriptionsByClient({ id })) lines.push([id, it])
    for (const it of await persistence.outgoingStream({ id }).toArray()) lines.push([id, plain(it)])
    for (let messageId = 1; messageId <= 20; messageId++) {
      let packet
      try {
        packet = await persistence.incomingGetPacket({ id }, { messageId })
      } catch {
        // The contract's way to say that there is none.
        continue
      }
      lines.push([id, 'incoming', plain(packet)])
    }
    lines.push([id, 'will', plain(await persistence.getWill({ id }))])
  }
  return lines.map(line => JSON.stringify(line)).join('\n')
}

/** The model after `count` calls of a lane, and after one more: `dump` of either may be found. */
export async function expected(Memory, seed, lane, count) {
  const model = new Memory()
  await model.setup({ id: 'model', counter: 0 })
  let done = 0
  let before = ''
  for (const move of moves(seed, lane)) {
    if (done === count) before = await dump(model, lane)
    if (done > count) return [before, await dump(model, lane)]
    await call(model, move, true)
    done++
  }
}
