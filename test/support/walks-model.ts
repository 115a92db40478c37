/**
 * MQTT as its specifications have it, naively: every session with its subscriptions and what it is still to get, what
 * is retained, who is to be told what now. Nothing here is fast, nothing is taken from the broker. Where the text
 * leaves a choice and docs/conformance.md names none, each one is right: then what came decides (`walks-accept.ts`).
 * All of it is plain data, so that it can be copied: behind a crash several pasts are possible.
 */
import type { Action, Item, Message, Session, State, Subscription, Will } from './walks-state.ts'

/** After a restart wills wait so much longer (docs/conformance.md and docs/configuration.md). */
const WILL_GRACE_MS = 30_000
/** Most that is in flight to a client that names no Receive Maximum: the rig's limit. */
export const INFLIGHT_MAX = 4
/** Without clean session, 3.1.1. */
export const LONGEST_SECONDS = 30 * 86_400

export function newState(): State {
  const maps = { sessions: new Map(), retained: new Map(), waiting: new Map() }
  return { nowMs: 0, ...maps, orphans: [], due: [], floating: [] }
}

/** §4.7, letter by letter. */
export function matches(filter: string, topic: string): boolean {
  const wanted = filter.split('/')
  const levels = topic.split('/')
  for (let i = 0; i < wanted.length; i++) {
    if (wanted[i] === '#') return true
    if (i >= levels.length) return false
    if (wanted[i] !== '+' && wanted[i] !== levels[i]) return false
  }
  return wanted.length === levels.length
}

/** `a/#` also matches `a`; of `$share/NAME/FILTER` it is the last that counts. */
export function isFor(text: string, topic: string): boolean {
  const filter = text.startsWith('$share/') ? text.split('/').slice(2).join('/') : text
  return matches(filter, topic) || (filter.endsWith('/#') && matches(filter.slice(0, -2), topic))
}

export function isShared(text: string): boolean {
  return text.startsWith('$share/')
}

export function membersOf(state: State, group: string): Session[] {
  return [...state.sessions.values()].filter(session => session.subscriptions.has(group))
}

export function creditOf(session: Session): number {
  if (session.connection === null) return 0
  const open = session.out.filter(item => item.state !== 'ready').length
  return session.connection.receiveMaximum - open
}

export function isExpired(state: State, message: Message): boolean {
  return message.expiresAt > 0 && message.expiresAt <= state.nowMs
}

export function apply(state: State, action: Action): void {
  switch (action.kind) {
    case 'connect':
      connect(state, action)
      return
    case 'disconnect':
      disconnect(state, action)
      return
    case 'subscribe':
      subscribe(state, action)
      return
    case 'unsubscribe':
      unsubscribe(state, action)
      return
    case 'publish':
      publish(state, action)
      return
    case 'pubrel': {
      const session = state.sessions.get(action.clientId)!
      const isKnown = session.inbound.delete(action.packetId)
      const code = isKnown || session.connection?.version !== 5 ? 0 : 0x92
      say(state, action.clientId, `pubcomp ${action.packetId} ${code}`)
      return
    }
    case 'ack':
      acknowledge(state, action)
  }
}

function say(state: State, clientId: string, ...texts: string[]): void {
  state.due.push({ clientId, texts, publish: null, isOptional: false })
}

type Of<Kind extends Action['kind']> = Extract<Action, { kind: Kind }>

function connect(state: State, action: Of<'connect'>): void {
  const { clientId, version, clean } = action
  const old = state.sessions.get(clientId)
  if (old !== undefined) {
    const wasConnected = old.connection !== null
    const ends = clean || (wasConnected && old.expirySeconds === 0)
    if (wasConnected) lose(old)
    // A delayed will is cancelled when its session goes on, and due when that ends [MQTT-3.1.3-9].
    if (ends || (wasConnected && old.will?.delaySeconds === 0)) publishWill(state, old)
    if (ends) endSession(state, old)
  }
  state.orphans = state.orphans.filter(orphan => orphan.clientId !== clientId)
  const session = state.sessions.get(clientId) ?? {
    clientId,
    expirySeconds: 0,
    connection: null,
    endsAt: 0,
    subscriptions: new Map(),
    out: [],
    inbound: new Set(),
    will: null,
    willDueAt: 0
  }
  say(state, clientId, `connack ${state.sessions.has(clientId)} 0`)
  state.sessions.set(clientId, session)
  session.connection = { version, receiveMaximum: action.receiveMaximum }
  if (action.expirySeconds === 0) giveBack(state, session)
  session.expirySeconds = action.expirySeconds
  session.will = action.will
  session.willDueAt = 0
  for (const { state: how, packetId } of session.out) {
    if (how === 'released') say(state, clientId, `pubrel ${packetId} 0`)
  }
}

/** From now on the session ends with its connection: what it has of shared subscriptions at QoS 1 is any member's. */
function giveBack(state: State, session: Session): void {
  for (const item of [...session.out]) {
    const waiting = state.waiting.get(item.group)
    if (waiting === undefined || item.qos !== 1) continue
    const { message } = item
    session.out.splice(session.out.indexOf(item), 1)
    const isOptional = item.isOptional || !session.subscriptions.has(item.group)
    waiting.push({ message, isOptional, isBack: true, isKept: false })
  }
}

/** What was sent and is not acknowledged is to be sent again [MQTT-4.4.0-1]. */
function lose(session: Session): void {
  session.connection = null
  for (const item of session.out) {
    if (item.state !== 'sent') continue
    item.state = 'ready'
    item.dup = 'yes'
  }
}

function disconnect(state: State, action: Of<'disconnect'>): void {
  const session = state.sessions.get(action.clientId)!
  lose(session)
  if (action.expirySeconds !== null) session.expirySeconds = action.expirySeconds
  const ends = session.expirySeconds === 0
  if (action.way === 'normal') session.will = null
  else if (ends || session.will?.delaySeconds === 0) publishWill(state, session)
  else if (session.will !== null) {
    session.willDueAt = state.nowMs + session.will.delaySeconds * 1_000
  }
  if (ends) endSession(state, session)
  else session.endsAt = state.nowMs + session.expirySeconds * 1_000
}

function publishWill(state: State, session: Session): void {
  const { will } = session
  session.will = null
  session.willDueAt = 0
  if (will !== null) routeWill(state, session.clientId, will)
}

function routeWill(state: State, from: string, will: Will): void {
  const { serial, topic, payload, qos, retain } = will
  const said = '[null,null,null,null,[]]'
  route(state, { serial, topic, payload, qos, retain, from, said, expiresAt: 0 }, true)
}

function endSession(state: State, session: Session): void {
  state.sessions.delete(session.clientId)
  for (const item of session.out) {
    if (item.group === '' || item.qos !== 1) continue
    // Another member gets it, if it was still a member; QoS 2 goes to nobody (§4.8.2, our choice).
    const isOptional = item.isOptional || !session.subscriptions.has(item.group)
    const { message } = item
    const waiting = state.waiting.get(item.group)
    waiting?.push({ message, isOptional, isBack: true, isKept: false })
  }
  forgetGroups(state)
}

function forgetGroups(state: State): void {
  for (const group of state.waiting.keys()) {
    if (membersOf(state, group).length === 0) state.waiting.delete(group)
  }
}

function subscribe(state: State, action: Of<'subscribe'>): void {
  const { clientId, packetId, filters } = action
  const session = state.sessions.get(clientId)!
  say(state, clientId, `suback ${packetId} ${filters.map(({ qos }) => qos).join()}`)
  for (const asked of filters) {
    const { filter, retainHandling } = asked
    const isNew = !session.subscriptions.has(filter)
    session.subscriptions.set(filter, asked)
    renewReplays(session, asked, filter)
    if (isShared(filter)) {
      if (!state.waiting.has(filter)) state.waiting.set(filter, [])
      continue
    }
    if (retainHandling === 2 || (retainHandling === 1 && !isNew)) continue
    for (const message of state.retained.values()) {
      if (!isFor(filter, message.topic) || isExpired(state, message)) continue
      const isOwn = asked.noLocal && message.from === clientId
      session.out.push({
        ...newItem(message, Math.min(message.qos, asked.qos), [true], [asked]),
        isFree: true,
        // One's own, retained: the text can be read both ways [MQTT-3.8.3-3].
        isOptional: isOwn,
        replayOf: filter
      })
    }
  }
}

/** What waits for credit, where nothing is stored, is sent as the subscription then is. */
function renewReplays(session: Session, asked: Subscription, filter: string): void {
  if (session.expirySeconds > 0) return
  for (const [at, item] of session.out.entries()) {
    if (item.replayOf !== filter || item.state !== 'ready' || item.dup !== 'no') continue
    const { message, isOptional, replayOf } = item
    const renewed = newItem(message, Math.min(message.qos, asked.qos), [true], [asked])
    session.out[at] = { ...renewed, isFree: true, isOptional, replayOf }
  }
}

function newItem(
  message: Message,
  qos: number,
  retains: readonly boolean[],
  by: readonly Subscription[]
): Item {
  const ids = by.map(({ identifier }) => identifier).filter(identifier => identifier > 0)
  ids.sort((a, b) => a - b)
  const rest = { isFree: false, isOptional: false, isOld: false, group: '', replayOf: '' }
  return { message, qos, retains, ids, state: 'ready', packetId: 0, dup: 'no', ...rest }
}

function unsubscribe(state: State, action: Of<'unsubscribe'>): void {
  const { clientId, packetId, filter } = action
  const session = state.sessions.get(clientId)!
  const existed = session.subscriptions.delete(filter)
  const code = existed ? 0 : 0x11
  const isVersion5 = session.connection?.version === 5
  say(state, clientId, `unsuback ${packetId} ${isVersion5 ? code : ''}`)
  forgetGroups(state)
}

function publish(state: State, action: Of<'publish'>): void {
  const { clientId, packetId, expirySeconds } = action
  const session = state.sessions.get(clientId)!
  const expiresAt = expirySeconds === 0 ? 0 : state.nowMs + expirySeconds * 1_000
  const message = { ...action.message, expiresAt }
  if (message.qos === 2) {
    say(state, clientId, `pubrec ${packetId} 0`)
    // [MQTT-4.3.3-10]
    if (session.inbound.has(packetId)) return
    session.inbound.add(packetId)
  }
  const found = route(state, message, false)
  if (message.qos !== 1) return
  const codes = session.connection?.version === 5 ? { no: [16], all: [0], own: [0, 16] } : null
  say(state, clientId, ...(codes?.[found] ?? [0]).map(code => `puback ${packetId} ${code}`))
}

/** To whom: nobody, only to those who want nothing of their own, or others too. */
function route(state: State, message: Message, isWill: boolean): 'no' | 'own' | 'all' {
  if (message.retain) {
    if (message.payload === '') state.retained.delete(message.topic)
    else state.retained.set(message.topic, message)
  }
  let found: 'no' | 'own' | 'all' = 'no'
  for (const session of state.sessions.values()) {
    const all = [...session.subscriptions].filter(
      ([text]) => !isShared(text) && isFor(text, message.topic)
    )
    const by = all.map(([, subscription]) => subscription)
    const left = by.filter(each => !each.noLocal || session.clientId !== message.from)
    if (by.length > 0 && found === 'no') found = 'own'
    if (left.length === 0) continue
    found = 'all'
    const qos = Math.min(message.qos, Math.max(...left.map(each => each.qos)))
    const retains = left.map(each => message.retain && each.retainAsPublished)
    const item = { ...newItem(message, qos, retains, left), isFree: isWill }
    if (qos > 0) session.out.push(item)
    else if (session.connection !== null) {
      const { clientId } = session
      state.due.push({ clientId, texts: [], publish: item, isOptional: false })
    }
  }
  for (const group of state.waiting.keys()) {
    if (!isFor(group, message.topic)) continue
    found = 'all'
    share(state, message, group)
  }
  return found
}

function share(state: State, message: Message, group: string): void {
  const members = membersOf(state, group)
  if (message.qos === 0) {
    if (members.some(member => member.connection !== null)) state.floating.push({ message, group })
    return
  }
  const isKept = members.some(member => member.expirySeconds > 0)
  // Nobody takes more than QoS 0 of it, so it may be dropped where nobody is there.
  const isOptional = members.every(member => member.subscriptions.get(group)!.qos === 0)
  state.waiting.get(group)!.push({ message, isOptional, isBack: false, isKept })
}

function acknowledge(state: State, action: Of<'ack'>): void {
  const { clientId, cmd, packetId, refuses } = action
  const session = state.sessions.get(clientId)!
  const wanted = cmd === 'pubcomp' ? 'released' : 'sent'
  const at = session.out.findIndex(item => item.packetId === packetId && item.state === wanted)
  if (at < 0) throw new Error(`${clientId} acknowledges what the model does not know: ${packetId}`)
  if (cmd === 'pubrec' && !refuses) {
    session.out[at]!.state = 'released'
    say(state, clientId, `pubrel ${packetId} 0`)
  } else session.out.splice(at, 1)
}

/** A second passes. */
export function second(state: State): void {
  state.nowMs += 1_000
  const { nowMs } = state
  for (const session of state.sessions.values()) {
    session.out.splice(0, session.out.length, ...session.out.filter(item => stays(state, item)))
    for (const item of session.out) {
      if (item.isOld && item.state === 'ready' && isExpired(state, item.message)) {
        item.isOptional = true
      }
    }
  }
  for (const [group, waiting] of state.waiting) {
    state.waiting.set(
      group,
      waiting.filter(({ message }) => !isExpired(state, message))
    )
  }
  for (const [topic, message] of state.retained) {
    if (isExpired(state, message)) state.retained.delete(topic)
  }
  for (const session of [...state.sessions.values()]) {
    if (session.connection !== null) continue
    const ends = session.endsAt <= nowMs
    if (session.will !== null && (ends || session.willDueAt <= nowMs)) publishWill(state, session)
    if (ends) endSession(state, session)
  }
  const due = state.orphans.filter(orphan => orphan.dueAt <= nowMs)
  state.orphans = state.orphans.filter(orphan => orphan.dueAt > nowMs)
  for (const { clientId, will } of due) routeWill(state, clientId, will)
}

/** What was sent in time is sent again. */
function stays(state: State, item: Item): boolean {
  return item.state !== 'ready' || item.dup === 'yes' || !isExpired(state, item.message)
}

/**
 * The broker stops, or crashes, and starts again at `nowMs`: a state that a crash leads back to may be older. What may
 * be then: wills of sessions that end may be lost in a crash.
 */
export function restart(before: State, isCrash: boolean, nowMs: number): State[] {
  const state = structuredClone(before)
  state.nowMs = nowMs
  state.due = []
  state.floating = []
  const orphans: State['orphans'] = state.orphans.map(orphan => ({
    ...orphan,
    dueAt: state.nowMs + WILL_GRACE_MS
  }))
  for (const [group, waiting] of state.waiting) {
    for (const each of waiting) if (!each.isKept) each.isOptional = true
    if (membersOf(state, group).every(member => member.expirySeconds === 0)) waiting.length = 0
  }
  for (const session of [...state.sessions.values()]) {
    const wasConnected = session.connection !== null
    const { clientId, will } = session
    if (session.expirySeconds === 0) {
      if (will !== null) orphans.push({ clientId, will, dueAt: state.nowMs + WILL_GRACE_MS })
      endSession(state, session)
      continue
    }
    lose(session)
    if (wasConnected) session.endsAt = state.nowMs + session.expirySeconds * 1_000
    const grace = state.nowMs + WILL_GRACE_MS
    if (will !== null) {
      const isWaiting = session.willDueAt > 0
      session.willDueAt = isWaiting
        ? Math.max(session.willDueAt, grace)
        : grace + will.delaySeconds * 1_000
    }
    for (const item of session.out) restartItem(state, item, isCrash)
  }
  for (const waiting of state.waiting.values()) {
    for (const each of waiting) if (each.isBack) each.isOptional = true
  }
  if (!isCrash) return [{ ...state, orphans }]
  let forks: State['orphans'][] = [[]]
  for (const orphan of orphans) forks = forks.flatMap(kept => [kept, [...kept, orphan]])
  return forks.map(kept => ({ ...structuredClone(state), orphans: kept }))
}

function restartItem(state: State, item: Item, isCrash: boolean): void {
  if (item.state !== 'ready') return
  item.isOld = true
  // Never sent: the broker does not know any more, and may say so [MQTT-3.3.1-1].
  if (item.dup === 'no') item.dup = 'any'
  if (isExpired(state, item.message)) item.isOptional = true
  // A retained message of QoS 1 is stored with the next sync: one that the power cuts off is not sent again.
  if (isCrash && item.replayOf !== '' && item.qos === 1) item.isOptional = true
  if (!isCrash || item.group === '') return
  // Whose it became may be lost with the power: then it waits for all members again.
  item.isOptional = true
  const { message } = item
  state.waiting.get(item.group)?.push({ message, isOptional: true, isBack: true, isKept: true })
}
