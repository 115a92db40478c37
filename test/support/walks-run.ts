/** One walk: moves on the real broker and on the model, compared after each. */
import type { Broker } from '../../src/broker/broker.ts'
import { WalkPeer } from './walks-peer.ts'
import { accept, Mismatch } from './walks-accept.ts'
import { apply, membersOf, newState, restart, second } from './walks-model.ts'
import type { Action, State } from './walks-state.ts'
import { CLIENTS, type CrashMove, type Move, type PeerMove } from './walks-moves.ts'
import { parse, type Seen } from './walks-packets.ts'
import { WalkRig } from './walks-rig.ts'
import type { Wire } from './sim-wire.ts'

/** States that are looked at at once. */
const PASTS_MAX = 64
/** Steps of the drain at the end. */
const DRAIN_MAX = 400

interface Snapshot {
  readonly states: readonly State[]
  /** The journal's, behind it. */
  readonly ticket: number
}

export interface WalkStats {
  walks: number
  steps: number
  publishes: number
  packets: number
  restarts: number
  crashes: number
}

export function newStats(): WalkStats {
  return { walks: 0, steps: 0, publishes: 0, packets: 0, restarts: 0, crashes: 0 }
}

export interface WalkOptions {
  readonly stats?: WalkStats
  readonly plant?: (broker: Broker) => void
}

export async function runWalk(
  moves: readonly Move[],
  seed: number,
  options: WalkOptions = {}
): Promise<void> {
  const walk = new Walk(seed, options)
  walk.rig.install()
  try {
    await walk.run(moves)
  } finally {
    walk.rig.uninstall()
  }
}

class Walk {
  readonly rig: WalkRig
  readonly #peers: readonly WalkPeer[]
  readonly #stats: WalkStats
  /** The states that all that came can be of: one, but behind a crash. */
  #states: readonly State[] = [newState()]
  #snapshots: Snapshot[] = []
  #crashesLeft = 0

  constructor(seed: number, options: WalkOptions) {
    this.rig = new WalkRig(seed, options.plant)
    this.#stats = options.stats ?? newStats()
    const counter = { next: 1 }
    this.#peers = CLIENTS.map((_, index) => new WalkPeer(index, counter))
  }

  async run(moves: readonly Move[]): Promise<void> {
    await this.rig.open()
    this.#stats.walks++
    this.#crashesLeft = moves.filter(({ kind }) => kind === 'crash').length
    for (const [at, move] of moves.entries()) {
      this.#stats.steps++
      try {
        await this.#step(move)
      } catch (error) {
        throw located(error, `move ${at} (${JSON.stringify(move)})`)
      }
    }
    try {
      await this.#drain()
    } catch (error) {
      throw located(error, 'while everything drained')
    }
    this.#checkFaults()
    this.rig.sim.kill()
  }

  async #step(move: Move): Promise<void> {
    switch (move.kind) {
      case 'pass':
        await this.#pass(move.seconds)
        return
      case 'stop':
        await this.#stop()
        return
      case 'crash':
        this.#crashesLeft--
        await this.#crash(move)
        return
      default:
        await this.#act(move)
    }
  }

  /** False: it could not be done. */
  async #act(move: PeerMove): Promise<boolean> {
    const peer = this.#peers[move.client]!
    const old = peer.wire
    const { version } = peer
    const sending = peer.plan(move)
    if (sending === null) return false
    if (move.kind === 'publish') this.#stats.publishes++
    this.#send(peer, sending.action, sending.bytes)
    await this.rig.settleAll()
    if (old !== null && old !== peer.wire) checkOld(old, version, move.kind)
    this.#compare(state => apply(state, sending.action))
    return true
  }

  #send(peer: WalkPeer, action: Action, bytes: Buffer | null): void {
    if (action.kind === 'connect') peer.wire = this.rig.dial()
    const { wire } = peer
    if (bytes !== null) wire!.send(bytes)
    if (action.kind !== 'disconnect') return
    if (bytes === null) wire!.destroy()
    peer.lose()
  }

  /** Each state that does not fit what came is none any more. */
  #compare(change: (state: State) => void): void {
    const got = new Map<string, readonly Seen[]>()
    for (const peer of this.#peers) {
      const seen = peer.take()
      this.#stats.packets += seen.length
      got.set(peer.clientId, seen)
      if (peer.wire?.isEnded) {
        const last = seen.at(-1)
        throw new Mismatch(`${peer.clientId} was closed: ${last === undefined ? '' : tell(last)}`)
      }
    }
    let first: unknown = null
    const isForked = this.#states.length > 1
    // Snapshots must not change any more.
    const states = this.#crashesLeft > 0 ? this.#states.map(copy) : this.#states
    const fitting = states.map(state => {
      try {
        change(state)
        return accept(state, got)
      } catch (error) {
        first ??= error
        return []
      }
    })
    this.#states = differing(inTurn(fitting)).slice(0, PASTS_MAX)
    if (this.#states.length === 0) {
      if (isForked && first instanceof Error) first.message += ' (nor in any other past)'
      throw first
    }
    this.#checkFaults()
    if (this.#crashesLeft > 0) this.#keep()
  }

  #keep(): void {
    const { ticket, durableTicket } = this.rig
    if (ticket === durableTicket) this.#snapshots = []
    this.#snapshots.push({ states: this.#states, ticket })
  }

  #checkFaults(): void {
    const { faults } = this.rig
    if (faults.length > 0) throw new Mismatch(`the broker says: ${faults.join('; ')}`)
  }

  async #pass(seconds: number): Promise<void> {
    for (let i = 0; i < seconds; i++) {
      await this.rig.second()
      this.#compare(second)
    }
  }

  #loseAll(): void {
    for (const peer of this.#peers) peer.lose()
  }

  async #stop(): Promise<void> {
    this.#stats.restarts++
    this.#loseAll()
    await this.rig.stop()
    this.#states = this.#states.flatMap(state => restart(state, false, state.nowMs))
    this.#snapshots = [{ states: this.#states, ticket: this.rig.ticket }]
  }

  async #crash(move: CrashMove): Promise<void> {
    const { rig } = this
    this.#stats.crashes++
    const { nowMs } = this.#states[0]!
    const pasts = [...this.#snapshots]
    if (pasts.length === 0) pasts.push({ states: this.#states, ticket: rig.ticket })
    if (move.during !== null) await this.#during(move.during, move.calls, pasts)
    const durable = rig.durableTicket
    // A state that a later one replaced on the disk for sure is no past of it.
    const possible = pasts.filter(
      (_, at) => at === pasts.length - 1 || pasts[at + 1]!.ticket > durable
    )
    this.#loseAll()
    await rig.crash()
    const states = possible.toReversed().flatMap(past => past.states)
    this.#states = states.flatMap(state => restart(state, true, nowMs)).slice(0, PASTS_MAX)
    this.#snapshots = [{ states: this.#states, ticket: rig.ticket }]
  }

  /** A move that the power goes in the middle of: what it does is on the disk or is not, but for what was answered. */
  async #during(move: PeerMove, calls: number, pasts: Snapshot[]): Promise<void> {
    const { rig } = this
    const peer = this.#peers[move.client]!
    const sending = peer.plan(move)
    if (sending === null) return
    const { action, bytes } = sending
    const before = rig.ticket
    rig.arm(calls)
    this.#send(peer, action, bytes)
    await rig.settle()
    const after = this.#states.map(copy)
    for (const state of after) {
      apply(state, action)
      // Nobody was told yet that they come: a SUBSCRIBE sent again brings them.
      for (const { out } of state.sessions.values()) {
        for (const item of out) if (item.replayOf !== '') item.isOptional = true
      }
      // Whoever got something of it, nobody saw.
      for (const [group, waiting] of state.waiting) {
        const by = new Map(
          membersOf(state, group).map(member => [member.clientId, member.subscriptions.get(group)!])
        )
        for (const [at, each] of waiting.entries()) waiting[at] = { ...each, isBack: true, by }
      }
    }
    const seen = peer.take()
    const isAnswered = seen.some(({ kind }) => kind !== 'publish' && kind !== 'other')
    const lasts = after.every(state => mustLast(state, action))
    if (isAnswered && lasts && rig.ticket > before) pasts.length = 0
    pasts.push({ states: after, ticket: rig.ticket })
  }

  /** Everybody comes, takes all there is, and goes on until nothing is left. */
  async #drain(): Promise<void> {
    for (const client of CLIENTS.keys()) {
      if (this.#peers[client]!.wire !== null) continue
      await this.#act({
        kind: 'connect',
        client,
        isVersion5: true,
        clean: false,
        expirySeconds: 100,
        receiveMaximum: 0,
        aliasMaximum: 0,
        will: null
      })
    }
    for (let i = 0; ; i++) {
      if (i > DRAIN_MAX) throw new Mismatch('it does not end')
      let didSome = false
      for (const client of CLIENTS.keys()) {
        const ack = { kind: 'ack', client, which: 0, refuses: false } as const
        if (await this.#act(ack)) didSome = true
        const release = { kind: 'release', client, which: 0, again: false } as const
        if (await this.#act(release)) didSome = true
      }
      if (!didSome) break
    }
    for (const state of this.#states) checkDrained(state)
    await this.#checkRetained()
  }

  /** A new subscriber to everything sees what is retained. */
  async #checkRetained(): Promise<void> {
    await this.#act({
      kind: 'connect',
      client: 0,
      isVersion5: true,
      clean: true,
      expirySeconds: 0,
      receiveMaximum: 0,
      aliasMaximum: 0,
      will: null
    })
    const options = { qos: 0, noLocal: false, retainAsPublished: true, retainHandling: 0 } as const
    const filters = [{ filter: 4, ...options }]
    await this.#act({ kind: 'subscribe', client: 0, identifier: 9, filters })
  }
}

function copy(state: State): State {
  return structuredClone(state)
}

/** The first that came of each, then the second of each: where too many are, none is left without any. */
function inTurn(all: readonly (readonly State[])[]): State[] {
  const longest = Math.max(...all.map(({ length }) => length))
  return Array.from({ length: longest }, (_, at) => all.flatMap(each => each[at] ?? [])).flat()
}

/** Pasts that have come to the same are one. */
function differing(states: readonly State[]): readonly State[] {
  if (states.length < 2) return states
  return [...new Map(states.map(state => [JSON.stringify(state, plain), state])).values()]
}

function plain(_key: string, value: unknown): unknown {
  return value instanceof Map || value instanceof Set ? [...value] : value
}

/** Whoever is told of it may rely on it. */
function mustLast(state: State, action: Action): boolean {
  const session = state.sessions.get(action.clientId)
  if (action.kind === 'connect' || action.kind === 'subscribe' || action.kind === 'unsubscribe') {
    return (session?.expirySeconds ?? 0) > 0
  }
  if (action.kind !== 'publish') return false
  return action.message.retain || (action.message.qos === 2 && (session?.expirySeconds ?? 0) > 0)
}

function checkDrained(state: State): void {
  for (const { clientId, out } of state.sessions.values()) {
    if (out.length > 0) throw new Mismatch(`${clientId} is still to get ${out.length} messages`)
  }
}

/** The connection that another took over, or that its client ended. */
function checkOld(wire: Wire, version: 4 | 5, kind: string): void {
  const texts = parse(wire.takeBytes(), version).map(tell)
  const isTold = kind === 'connect' && version === 5
  if (texts.join() !== (isTold ? 'disconnect 142' : '')) {
    throw new Mismatch(`the connection that ended got "${texts.join()}"`)
  }
  if (!wire.isEnded) throw new Mismatch('the connection that ended is still open')
}

function tell(seen: Seen): string {
  return seen.kind === 'publish' ? `PUBLISH ${seen.payload}` : seen.text
}

function located(error: unknown, where: string): unknown {
  if (error instanceof Error) error.message = `${where}: ${error.message}`
  return error
}
