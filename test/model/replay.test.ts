/**
 * The live broker against a broker made of its log: whatever clients do, a replay brings back all that
 * lasts, with a checkpoint and without, while checkpoints and compaction go on (journal.md §3).
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cancel, consume } from '../../src/broker/consumers.ts'
import { bindExchange, bindQueue, unbindExchange, unbindQueue } from '../../src/broker/bindings.ts'
import { declareExchange, deleteExchange } from '../../src/broker/exchanges.ts'
import { declareQueue, deleteQueue, purgeQueue } from '../../src/broker/queues.ts'
import { ready } from '../../src/broker/deliver.ts'
import { get } from '../../src/broker/get.ts'
import { wakeSession } from '../../src/broker/group-member.ts'
import { replayRetained } from '../../src/broker/retained-replay.ts'
import { subscribe, unsubscribe } from '../../src/broker/sessions.ts'
import { received, reject, release, requeue, settle } from '../../src/broker/settle.ts'
import { cool } from '../../src/broker/spill.ts'
import { beginTransaction, endTransaction } from '../../src/broker/transaction.ts'
import { deleteUser, setUser } from '../../src/broker/users.ts'
import { BrokerError } from '../../src/core/errors.ts'
import { NOTHING } from '../../src/core/entries.ts'
import type { Queue } from '../../src/core/queue.ts'
import { ENTRY_QOS, ENTRY_QOS_SHIFT, ENTRY_STATE, RELEASED } from '../../src/core/queue-entry.ts'
import type { Session } from '../../src/core/session.ts'
import {
  Backend,
  Client,
  copyDisk,
  openRig,
  type Rig,
  turns,
  Worker
} from '../support/broker-rig.ts'
import {
  chargedBytes,
  differences,
  hasRecycled,
  lastingState,
  liveBytes
} from '../support/lasting-state.ts'
import { tableOf } from '../support/queue-tables.ts'
import { moveVhost } from '../support/vhost-moves.ts'

import { DELAYED, delayed, keyed, ONCE } from '../support/routing.ts'
const CLIENTS = ['a', 'b', 'c']
const TOPICS = ['t', 't/u', 't/u/v', 'w', 'w/x']
const FILTERS = ['t', 't/#', '+/u', 'w', 'w/x', '#', 't/u/v']
const SHARED = ['$share/g/t/#', '$share/g/w', '$share/h/t/#']
const QUEUES = ['q', 'r', 's', 'full', 'levels', 'once']
const EXCHANGES = ['d', 'f', 'x', 'later', 'dedup']
const KINDS = ['direct', 'fanout', 'topic', 'x-delayed-message', 'x-message-deduplication']
const TABLES = [[], [], [], DELAYED, ONCE]
const KEYS = ['t.u', 't.#', 'k', '#']
const OPEN_MAX = 40

const JOURNAL = {
  segmentBytes: 256 * 1024,
  cacheBytes: 512 * 1024,
  checkpointBytes: 128 * 1024,
  deadBytesMax: 1
}

const LIMITS = {
  hotEntriesMax: 100,
  sessionMessagesMax: 60,
  sharedMessagesMax: 70,
  retainedMax: 4
}

type Verb = (run: Run, a: number, b: number) => void | Promise<void>

function pick<T>(items: readonly T[], number: number): T {
  return items[number % items.length]!
}

class Run {
  rig!: Rig
  clients = new Map<string, Client>()
  workers = new Map<string, Worker>()
  /** Where the last replay looked; how often it did. */
  replays = 0
  wasRecycled = false
  #payloads = 0

  async start(): Promise<void> {
    this.rig = await openRig({ journalLimits: JOURNAL, limits: LIMITS })
  }

  payload(a: number): string {
    const bytes = a % 5 === 0 ? 9_000 : a % 31 === 0 ? 40_000 : a % 40
    return `${++this.#payloads} `.padEnd(bytes, '.')
  }

  client(a: number): Client | null {
    const found = this.clients.get(pick(CLIENTS, a))
    return found?.session ? found : null
  }

  /** A cold verb, whose refusals are answers. */
  try(verb: () => void): void {
    try {
      verb()
    } catch (error) {
      if (!(error instanceof BrokerError)) throw error
    }
  }

  /** What lasts, when all of it is durable and nothing changes any more. */
  async settled(): Promise<string[]> {
    for (let left = 20; left > 0; left--) {
      const before = await lastingState(this.rig.broker)
      await this.rig.flush()
      const after = await lastingState(this.rig.broker)
      if (differences(before, after).length === 0) return after
    }
    throw new Error('the state does not settle')
  }

  /** The state that is compared, and a replay of what the disk holds. */
  async compare(): Promise<void> {
    const { rig } = this
    const before = await this.settled()
    const isQuiet = rig.journal.ticket === rig.journal.durableTicket
    const disk = await copyDisk(rig.disk)
    if (hasRecycled(rig.broker)) this.wasRecycled = true
    const charged = liveBytes(rig.broker, true)
    expect(chargedBytes(rig.broker)).toEqual(liveBytes(rig.broker, false))
    const isCold = hasCold(rig)
    await this.replay(disk, before, isQuiet && !isCold ? charged : null)
    if (!this.wasRecycled) {
      await this.replay(await copyDisk(disk, false), before, null)
    }
  }

  async replay(
    disk: Rig['disk'],
    before: readonly string[],
    charged: Map<number, number> | null
  ): Promise<void> {
    this.replays++
    const copy = await openRig({
      disk,
      journalLimits: JOURNAL,
      limits: LIMITS,
      isStarted: false,
      onReplayed: async broker => {
        expect(differences(before, await lastingState(broker))).toEqual([])
        const found = chargedBytes(broker)
        expect(found).toEqual(liveBytes(broker, false))
        if (charged !== null && !hasCold({ broker })) {
          expect(Object.fromEntries(found)).toEqual(Object.fromEntries(charged))
        }
        expect(broker.state.nextId).toBeLessThanOrEqual(this.rig.broker.state.nextId)
      }
    })
    expect(copy.recovery.damagedBatches).toBe(0)
    if (copy.recovery.skippedRecords > 0) expect(copy.refused).toEqual([])
    copy.disk.isOff = true
  }

  /** The process ends, in order or not; a new one goes on. */
  async again(isInOrder: boolean): Promise<void> {
    const before = await this.settled()
    const onReplayed = async (broker: Rig['broker']) => {
      expect(differences(before, await lastingState(broker))).toEqual([])
    }
    const { broker } = this.rig
    if (!isInOrder) {
      // The power goes in the middle of a checkpoint.
      this.rig.journal.checkpoint().catch(() => undefined)
      await turns(this.replays % 9)
    }
    this.clients.clear()
    this.workers.clear()
    this.rig = isInOrder
      ? await this.rig.restart({ onReplayed })
      : await this.rig.crash({ onReplayed })
    // Also while it was closed.
    if (hasRecycled(broker)) this.wasRecycled = true
  }
}

/** A cold chunk is charged with its index too, and with what was settled since until it is read back. */
function hasCold({ broker }: Pick<Rig, 'broker'>): boolean {
  for (const queue of broker.state.queues.values()) {
    for (const chunk of queue.chunks) if (chunk.words === null) return true
  }
  return false
}

/** An open delivery of a queue; its fields are set. */
function openOf(queue: Queue, a: number): number {
  const open = [...queue.openSequences()]
  if (open.length === 0) return NOTHING
  const sequence = pick(open, a)
  queue.find(sequence)
  return sequence
}

function acknowledge(rig: Rig, session: Session, a: number): void {
  const { queue } = session
  const sequence = openOf(queue, a)
  if (sequence === NOTHING) return
  const qos = (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT
  const isReleased = (queue.flags & ENTRY_STATE) === RELEASED
  if (qos === 2 && !isReleased) received(rig.broker, session, sequence)
  else settle(rig.broker, queue, sequence)
  wakeSession(rig.broker, session)
}

const VERBS = {
  connect(run, a, b) {
    const clientId = pick(CLIENTS, a)
    const client = new Client(run.rig, clientId)
    client.inflightMax = 10
    const expiry = pick([3_600, 60, 0, 3_600], b)
    const will = b % 3 === 0 ? { delaySeconds: b % 4, retain: b % 5 === 0, qos: b % 2 } : null
    client.open({ clean: b % 7 === 0, expiry, version: 4 + (b % 2), will })
    run.clients.set(clientId, client)
  },
  disconnect(run, a, b) {
    const client = run.client(a)
    client?.close(pick(['disconnect', 'with-will', 'lost'], b), b % 5 === 0 ? (b % 2) * 60 : null)
  },
  subscribe(run, a, b) {
    const client = run.client(a)
    if (client === null) return
    const filter = pick(a % 2 === 0 ? FILTERS : SHARED, b)
    subscribe(run.rig.broker, client.session!, filter, {
      qos: a % 3,
      noLocal: b % 5 === 0,
      retainAsPublished: a % 2 === 0,
      retainHandling: b % 3,
      identifier: b % 4
    })
    replayRetained(run.rig.broker, client.session!, filter)
  },
  unsubscribe(run, a, b) {
    const client = run.client(a)
    if (client === null) return
    unsubscribe(run.rig.broker, client.session!, pick(a % 2 === 0 ? FILTERS : SHARED, b))
  },
  publish(run, a, b) {
    const client = run.client(a)
    if (client === null) return
    for (let left = b % 11 === 0 ? OPEN_MAX : 1; left > 0; left--) {
      const isClear = b % 9 === 0
      client.publish(pick(TOPICS, b), isClear ? '' : run.payload(b + left), {
        qos: a % 3,
        retain: b % 3 === 0,
        packetId: 1 + (b % 20),
        expiresAt: b % 5 === 0 ? run.rig.broker.nowMs + (b % 90) * 1_000 : 0
      })
    }
  },
  pubrel(run, a, b) {
    const client = run.client(a)
    if (client === null) return
    const open = [...(client.session!.inbound?.keys() ?? [])]
    if (open.length > 0) release(run.rig.broker, client.session!, pick(open, b))
  },
  acknowledge(run, a, b) {
    const client = run.client(a)
    if (client === null) return
    for (let left = 1 + (b % 8); left > 0; left--) acknowledge(run.rig, client.session!, a + left)
  },
  /** Some of it at once: a replay has all of it or nothing. */
  transaction(run, a, b) {
    const { broker } = run.rig
    const began = beginTransaction(broker)
    const backend = new Backend(run.rig)
    for (let left = b % 5; left > 0; left--)
      backend.publish('', pick(QUEUES, a + left), run.payload(b), false)
    const queue = run.rig.vhost.queues.get(pick(QUEUES, b))
    const sequence = queue === undefined ? NOTHING : openOf(queue, a)
    if (queue !== undefined && sequence !== NOTHING) {
      if (a % 2 === 0) settle(broker, queue, sequence)
      else reject(broker, queue, sequence)
    }
    endTransaction(broker, began)
  },
  declare(run, a, b) {
    const { rig } = run
    run.try(() => {
      declareQueue(rig.broker, rig.vhost, {
        name: pick(QUEUES, a),
        passive: false,
        durable: b % 5 !== 0,
        exclusive: false,
        autoDelete: b % 7 === 0,
        arguments: tableOf(pick(QUEUES, a), b),
        principal: null,
        owner: null
      })
    })
  },
  deleteQueue(run, a, b) {
    if (b % 3 !== 0) return
    run.try(() => {
      deleteQueue(run.rig.broker, run.rig.vhost, pick(QUEUES, a), {
        ifUnused: false,
        ifEmpty: false,
        principal: null,
        owner: null
      })
    })
  },
  purge(run, a) {
    const request = { principal: null, owner: null }
    run.try(() => {
      purgeQueue(run.rig.broker, run.rig.vhost, pick(QUEUES, a), request)
    })
  },
  declareExchange(run, a, b) {
    run.try(() => {
      declareExchange(run.rig.broker, run.rig.vhost, {
        name: pick(EXCHANGES, a),
        kind: pick(KINDS, a),
        passive: false,
        durable: b % 4 !== 0,
        autoDelete: b % 3 === 0,
        internal: false,
        arguments: pick(TABLES, a),
        principal: null
      })
    })
  },
  deleteExchange(run, a, b) {
    if (b % 3 !== 0) return
    run.try(() => {
      const request = { ifUnused: false, principal: null }
      deleteExchange(run.rig.broker, run.rig.vhost, pick(EXCHANGES, a), request)
    })
  },
  bind(run, a, b) {
    const change = b % 4 === 0 ? unbindQueue : bindQueue
    run.try(() => {
      change(run.rig.broker, run.rig.vhost, {
        queue: pick(QUEUES, a),
        exchange: pick(['amq.topic', ...EXCHANGES], b),
        key: pick(KEYS, a + b),
        arguments: [],
        principal: null,
        owner: null
      })
    })
  },
  bindExchange(run, a, b) {
    const change = b % 4 === 0 ? unbindExchange : bindExchange
    run.try(() => {
      change(run.rig.broker, run.rig.vhost, {
        destination: pick(EXCHANGES, a),
        source: pick(['amq.topic', ...EXCHANGES], b),
        key: pick(KEYS, a + b),
        arguments: [],
        principal: null
      })
    })
  },
  publishAmqp(run, a, b) {
    const exchange = pick(['', 'amq.topic', ...EXCHANGES], b)
    if (!run.rig.vhost.exchanges.has(exchange)) return
    const key = exchange === '' ? pick(QUEUES, a) : pick(KEYS, a)
    const backend = new Backend(run.rig)
    const count = a % 6 === 0 ? 300 : a % 6 === 1 ? 40 : 1
    backend.retain = exchange === 'amq.topic' && count === 1
    for (let left = count; left > 0; left--) {
      backend.publish(
        exchange,
        key,
        run.payload(count === 300 ? 7 : count === 40 ? 5 : b),
        b % 2 === 0,
        a % 3 === 0 || count === 300
          ? null
          : [...delayed(count > 1 ? 0 : (b % 9) * 7_000 + left), ...keyed(`${(a + left) % 97}`)],
        (b + (count === 300 ? left >> 6 : left)) % 5
      )
    }
  },
  consume(run, a, b) {
    const name = pick(QUEUES, a)
    const queue = run.rig.queue(name)
    if (queue === undefined) return
    const old = run.workers.get(name)
    if (old !== undefined && !old.isCancelled) {
      if (b % 3 === 0) cancel(run.rig.broker, queue, old)
      else old.credit += b % 90
      ready(run.rig.broker, queue)
      return
    }
    const worker = new Worker(b % 90, b % 6 === 0)
    run.workers.set(name, worker)
    run.try(() => {
      consume(run.rig.broker, queue, worker, { exclusive: false, priority: 0 })
    })
  },
  answer(run, a, b) {
    const queue = run.rig.queue(pick(QUEUES, a))
    if (queue === undefined) return
    const level = queue.levels === null ? queue : pick(queue.levels.used, b)
    for (let left = 1 + (b % 60); left > 0; left--) {
      const found = openOf(level, b)
      if (found === NOTHING) return
      const sequence = queue.levels?.nameOf(level, found) ?? found
      const answer = Math.floor(a / QUEUES.length) % 5
      if (answer === 0) requeue(run.rig.broker, queue, sequence)
      else if (answer === 1) reject(run.rig.broker, queue, sequence)
      else settle(run.rig.broker, queue, sequence)
    }
  },
  get(run, a, b) {
    const queue = run.rig.queue(pick(QUEUES, a))
    if (queue === undefined) return
    get(run.rig.broker, queue, { onGot: () => undefined }, b % 2 === 0)
  },
  cool(run, a) {
    for (const queue of [...run.rig.broker.state.queues.values()]) {
      const chunks = queue.chunks.filter(chunk => queue.isCoolable(chunk))
      if (chunks.length > 0) cool(run.rig.broker, queue, pick(chunks, a))
    }
  },
  user(run, a, b) {
    const name = pick(['u', 'v'], a)
    if (b % 3 === 0) {
      deleteUser(run.rig.broker, name)
      return
    }
    const resources = [{ vhost: '/', configure: `${b}`, write: '.*', read: 'é' }]
    const user = { name, tags: ['x'], passwordHash: `${b}`, scram: '', resources, topics: [] }
    setUser(run.rig.broker, user)
  },
  vhost(run, a, b) {
    run.try(() => moveVhost(run.rig, pick(['v', 'w'], a), b))
  },
  async pass(run, a) {
    await run.rig.pass(pick([10, 1_000, 40_000, 120_000], a))
  },
  checkpoint(run) {
    run.rig.journal.checkpoint().catch((error: Error) => {
      throw error
    })
  },
  async compare(run, a) {
    if (a % 3 === 0) await run.compare()
    else await turns(a % 4)
  },
  async restart(run, a) {
    if (a % 4 === 0) await run.again(a % 8 === 0)
  }
} satisfies Record<string, Verb>

const names = Object.keys(VERBS) as (keyof typeof VERBS)[]
const usual: (keyof typeof VERBS)[] = [
  ...['connect', 'subscribe', 'publish', 'publish', 'acknowledge', 'publishAmqp'],
  ...['declare', 'bind', 'answer', 'answer', 'compare', 'checkpoint']
] as (keyof typeof VERBS)[]
const commands = fc.array(
  fc.tuple(fc.constantFrom(...names, ...usual), fc.nat(10_000), fc.nat(10_000)),
  { minLength: 1, maxLength: 250, size: 'max' }
)

/** So that most runs have something to work on. */
const PRELUDE = [
  ['connect', 0, 1],
  ['connect', 1, 4],
  ['subscribe', 2, 1],
  ['subscribe', 1, 3],
  ['subscribe', 1, 5],
  ['declare', 0, 1],
  ['declare', 1, 1],
  ['bind', 0, 1],
  ['declareExchange', 2, 1],
  ['declareExchange', 3, 1],
  ['bind', 0, 9],
  ['declareExchange', 4, 1],
  ['bind', 0, 5],
  ['declare', 5, 1],
  ['bind', 5, 5]
] as const

describe('a replay of the log', () => {
  it('brings back all that lasts, and charges the same segments for it', async () => {
    await fc.assert(
      fc.asyncProperty(commands, async list => {
        const run = new Run()
        await run.start()
        for (const [name, a, b] of [...PRELUDE, ...list]) await VERBS[name](run, a, b)
        await run.compare()
        expect(run.rig.lines.filter(({ level }) => (level as number) >= 50)).toEqual([])
        run.rig.stop()
        run.rig.disk.isOff = true
      }),
      { numRuns: Number(process.env['MOTEMQ_REPLAY_RUNS'] ?? 150) }
    )
  })
})
