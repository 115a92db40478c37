/**
 * Holds what came against the model: each packet must be one that the specification has for it now, and when nothing
 * more comes nothing may be left that could have been sent.
 */
import type { Seen, SeenPublish } from './walks-packets.ts'
import { creditOf, isExpired, isFor, isShared, membersOf } from './walks-model.ts'
import type { Item, Session, State, Waiting } from './walks-state.ts'

/** What is not as the specification has it. */
export class Mismatch extends Error {
  constructor(text: string) {
    super(text)
    this.name = 'Mismatch'
  }
}

const NOTHING_SAID = '[null,null,null,null,[]]'

/**
 * What each client got in one step; `state` is that behind the step. Which of several shared subscriptions a message
 * came by cannot be seen: so there may be several states that fit. Throws a `Mismatch` when none does.
 */
export function accept(state: State, got: ReadonlyMap<string, readonly Seen[]>): State[] {
  const busy = [...state.waiting.keys()].filter(
    group =>
      state.waiting.get(group)!.length > 0 || state.floating.some(each => each.group === group)
  )
  const cameSome = [...got.values()].some(all => all.some(({ kind }) => kind === 'publish'))
  if (busy.length < 2 || !cameSome) {
    acceptBy(state, got, busy)
    return [state]
  }
  let first: unknown = null
  const found = new Map<string, State>()
  for (const order of permutations(busy)) {
    const each = structuredClone(state)
    try {
      acceptBy(each, got, order)
    } catch (error) {
      first ??= error
      continue
    }
    found.set(labelsOf(each), each)
  }
  if (found.size === 0) throw first
  return [...found.values()]
}

function permutations(all: readonly string[]): string[][] {
  if (all.length === 0) return [[]]
  return all.flatMap(head =>
    permutations(all.filter(each => each !== head)).map(rest => [head, ...rest])
  )
}

/** All that different orders can make different. */
function labelsOf(state: State): string {
  const items = [...state.sessions.values()].map(({ clientId, out }) => [
    clientId,
    out.map(({ group, packetId, isOptional }) => [group, packetId, isOptional])
  ])
  const waiting = [...state.waiting].map(([group, all]) => [
    group,
    all.map(({ message, isOptional }) => [message.payload, isOptional])
  ])
  return JSON.stringify([items, waiting])
}

/** `order`: the shared subscriptions, the one first that a message is taken for first. */
function acceptBy(
  state: State,
  got: ReadonlyMap<string, readonly Seen[]>,
  order: readonly string[]
): void {
  for (const [clientId, packets] of got) {
    const session = state.sessions.get(clientId)
    if (session?.connection == null) {
      if (packets.length > 0) throw new Mismatch(`${clientId} is not connected and got packets`)
      continue
    }
    if (packets.slice(1).some(packet => packet.kind === 'connack')) {
      throw new Mismatch(`${clientId}: something came before the CONNACK`)
    }
    for (const packet of packets) takeOne(state, session, packet, order)
  }
  for (const { clientId, texts, publish, isOptional } of state.due) {
    if (isOptional) continue
    const what = publish === null ? texts.join(' or ') : tell(state, publish)
    throw new Mismatch(`${clientId} did not get ${what}`)
  }
  for (const { group, message } of state.floating) {
    throw new Mismatch(`nobody of ${group} got ${message.payload}`)
  }
  state.due = []
  for (const session of state.sessions.values()) checkSession(state, session)
  for (const [group, waiting] of state.waiting) checkGroup(state, group, waiting)
}

function takeOne(state: State, session: Session, packet: Seen, order: readonly string[]): void {
  const { clientId } = session
  if (packet.kind === 'publish') {
    const take = packet.qos > 0 ? takeQueued : takeDirect
    if (take(state, session, packet, order)) return
    const open = session.out.map(item => `\n  ${tell(state, item)}`).join('')
    const due = state.due.filter(each => each.clientId === clientId && each.publish !== null)
    const now = due.map(each => `\n  ${tell(state, each.publish!)}`).join('')
    const groups = [...session.subscriptions.keys()].filter(isShared)
    const waiting = groups.flatMap(group => state.waiting.get(group) ?? [])
    const shared = waiting.map(({ message }) => ` ${message.payload}`).join('')
    throw new Mismatch(
      `${clientId} got ${JSON.stringify(packet)}; it is to get${open}${now}\n  shared:${shared}`
    )
  }
  const at = state.due.findIndex(
    each => each.clientId === clientId && each.texts.includes(packet.text)
  )
  if (at < 0) {
    const due = state.due.filter(each => each.clientId === clientId).map(each => each.texts)
    throw new Mismatch(`${clientId} got ${packet.text}, to get was ${due.join('; ')}`)
  }
  state.due.splice(at, 1)
}

function tell(state: State, item: Item): string {
  const { message, qos, retains, ids, packetId, dup, isOptional } = item
  const rest = `retain ${retains.join('|')} ids ${ids.join()} id ${packetId} dup ${dup}`
  const left = message.expiresAt === 0 ? '' : ` expires in ${message.expiresAt - state.nowMs}`
  const maybe = isOptional ? 'perhaps ' : ''
  return `${maybe}${item.state} ${message.payload} (${message.topic}) QoS ${qos} ${rest}${left}`
}

/** It is this message as this client is to get it. */
function fits(state: State, session: Session, item: Item, packet: SeenPublish): boolean {
  const { message } = item
  const isVersion5 = session.connection?.version === 5
  if (packet.payload !== message.payload || packet.topic !== message.topic) return false
  if (packet.qos !== item.qos || !item.retains.includes(packet.retain)) return false
  if (item.dup !== 'any' && packet.dup !== (item.dup === 'yes')) return false
  if (item.qos === 0 && packet.dup) return false
  if (packet.identifiers.join() !== (isVersion5 ? item.ids.join() : '')) return false
  if (packet.said !== (isVersion5 ? message.said : NOTHING_SAID)) return false
  return packet.expirySeconds === (isVersion5 ? secondsLeft(state, item) : -1)
}

/** [MQTT-3.3.2-6]; at least 1 where it is sent again behind its time. */
function secondsLeft(state: State, { message }: Item): number {
  if (message.expiresAt === 0) return -1
  return Math.max(1, Math.ceil((message.expiresAt - state.nowMs) / 1_000))
}

function takeQueued(
  state: State,
  session: Session,
  packet: SeenPublish,
  order: readonly string[]
): boolean {
  if (creditOf(session) <= 0) {
    throw new Mismatch(`${session.clientId} got ${packet.payload} above its Receive Maximum`)
  }
  const isTaken = session.out.some(
    item => item.state !== 'ready' && item.packetId === packet.packetId
  )
  if (isTaken) throw new Mismatch(`${session.clientId}: packet identifier in use twice`)
  // What was sent before comes with the identifier that it had.
  const isAgain = session.out.some(
    item => item.packetId === packet.packetId && fits(state, session, item, packet)
  )
  let isFirst = true
  for (const item of session.out) {
    if (item.state !== 'ready' || item.qos === 0) continue
    const isInTurn = item.isFree || isFirst
    if (!item.isFree && !item.isOptional) isFirst = false
    if (!isInTurn || !fits(state, session, item, packet)) continue
    if (item.packetId !== packet.packetId && (isAgain || item.packetId !== 0)) continue
    item.state = 'sent'
    item.isOld = false
    item.packetId = packet.packetId
    forgetCopies(state, item, session)
    return true
  }
  return takeShared(state, session, packet, order)
}

/** Of a crash: it is here, so it waits for nobody any more. */
function forgetCopies(state: State, item: Item, owner: Session): void {
  if (item.group === '') return
  item.isOptional = false
  const waiting = state.waiting.get(item.group)
  const left = waiting?.filter(
    each => !each.isOptional || each.message.serial !== item.message.serial
  )
  if (left !== undefined) state.waiting.set(item.group, left)
  for (const session of state.sessions.values()) {
    if (session === owner) continue
    const at = session.out.findIndex(
      each =>
        each.isOptional && each.group === item.group && each.message.serial === item.message.serial
    )
    if (at >= 0) session.out.splice(at, 1)
  }
}

function takeShared(
  state: State,
  session: Session,
  packet: SeenPublish,
  order: readonly string[]
): boolean {
  for (const group of order) {
    const subscription = session.subscriptions.get(group)
    if (subscription === undefined) continue
    // The order is that of a publisher, a topic and a QoS [MQTT-4.6.0-6].
    const before = new Set<string>()
    for (const each of state.waiting.get(group) ?? []) {
      const { from, topic, qos } = each.message
      const stream = `${from} ${topic} ${qos}`
      const isInTurn = !before.has(stream) || each.isBack
      if (!each.isBack && !each.isOptional) before.add(stream)
      const ways = [subscription, each.by?.get(session.clientId) ?? subscription]
      const item = ways
        .map(way => shareOf(each, group, way, packet.qos))
        .find(way => way !== null && fits(state, session, way, packet))
      if (!isInTurn || item == null) continue
      const waiting = state.waiting.get(group)!
      waiting.splice(waiting.indexOf(each), 1)
      forgetCopies(state, item, session)
      if (packet.qos === 0) return true
      item.state = 'sent'
      item.packetId = packet.packetId
      // Behind what was there: it was given to it last.
      session.out.push(item)
      return true
    }
  }
  return false
}

/** As a member gets it. */
function shareOf(
  each: Waiting,
  group: string,
  subscription: { qos: number; retainAsPublished: boolean; identifier: number },
  qos: number
): Item | null {
  const { message, isBack } = each
  const most = Math.min(message.qos, subscription.qos)
  if (qos !== most && !(isBack && qos === Math.min(most, 1))) return null
  return {
    message,
    qos,
    retains: [message.retain && subscription.retainAsPublished],
    ids: subscription.identifier === 0 ? [] : [subscription.identifier],
    state: 'ready',
    packetId: 0,
    dup: isBack ? 'any' : 'no',
    isFree: true,
    isOptional: false,
    isOld: false,
    group,
    replayOf: ''
  }
}

function takeDirect(
  state: State,
  session: Session,
  packet: SeenPublish,
  order: readonly string[]
): boolean {
  const { clientId } = session
  const at = state.due.findIndex(
    ({ clientId: to, publish }) =>
      to === clientId && publish !== null && fits(state, session, publish, packet)
  )
  if (at >= 0) {
    state.due.splice(at, 1)
    return true
  }
  const floating = state.floating.toSorted(
    (a, b) => order.indexOf(a.group) - order.indexOf(b.group)
  )
  for (const one of floating) {
    const { message, group } = one
    const subscription = session.subscriptions.get(group)
    if (subscription === undefined) continue
    const each = { message, isOptional: false, isBack: false, isKept: false }
    const item = shareOf(each, group, subscription, 0)
    if (item === null || !fits(state, session, item, packet)) continue
    state.floating.splice(state.floating.indexOf(one), 1)
    return true
  }
  const replay = session.out.findIndex(item => item.qos === 0 && fits(state, session, item, packet))
  if (replay >= 0) {
    session.out.splice(replay, 1)
    return true
  }
  return takeShared(state, session, packet, order)
}

/** Nothing that could have been sent is left. */
function checkSession(state: State, session: Session): void {
  if (session.connection === null) {
    // A session that ends with its connection ended; retained messages of QoS 0 are not sent later.
    dropWhere(session, item => item.qos === 0)
    return
  }
  if (creditOf(session) <= 0) return
  dropWhere(
    session,
    item => item.state === 'ready' && (item.isOptional || isStale(state, session, item))
  )
  const left = session.out.find(item => item.state === 'ready')
  if (left !== undefined) {
    throw new Mismatch(`${session.clientId} did not get ${tell(state, left)}`)
  }
}

function dropWhere(session: Session, isGone: (item: Item) => boolean): void {
  session.out.splice(0, session.out.length, ...session.out.filter(item => !isGone(item)))
}

/** A retained message that waited for credit, where nothing is stored: the value of the moment of sending counts. */
function isStale(state: State, session: Session, item: Item): boolean {
  if (item.replayOf === '' || session.expirySeconds > 0) return false
  const now = state.retained.get(item.message.topic)
  return now?.payload !== item.message.payload || !session.subscriptions.has(item.replayOf)
}

function checkGroup(state: State, group: string, waiting: readonly Waiting[]): void {
  const members = membersOf(state, group)
  const ready = members.filter(member => creditOf(member) > 0)
  if (ready.length === 0) return
  const left = waiting.find(each => !each.isOptional && !isExpired(state, each.message))
  if (left !== undefined && isFor(group, left.message.topic)) {
    const who = ready.map(({ clientId }) => clientId).join()
    throw new Mismatch(`nobody of ${group} (${who}) got ${left.message.payload}`)
  }
  // Somebody who is away may have it since before a crash.
  if (ready.length === members.length) state.waiting.set(group, [])
}
