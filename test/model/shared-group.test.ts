/**
 * A shared group against a naive model of it: whatever members do, every message is in one place, goes to
 * whoever has credit, in order, and is never lost while somebody is subscribed; over crashes and restarts.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { wakeSession } from '../../src/broker/group-member.ts'
import { subscribe, unsubscribe } from '../../src/broker/sessions.ts'
import { received, settle } from '../../src/broker/settle.ts'
import { NOTHING } from '../../src/core/entries.ts'
import {
  ENTRY_QOS,
  ENTRY_QOS_SHIFT,
  ENTRY_STATE,
  READY,
  RELEASED
} from '../../src/core/queue-entry.ts'
import type { Queue } from '../../src/core/queue.ts'
import { Client, openRig, type Rig, turns } from '../support/broker-rig.ts'

const TEXT = '$share/g/t'
const INFLIGHT = 3
/** The first never ends its session nor leaves: so nothing may be lost with the group. */
const LASTING = ['a', 'b']
const NAMES = [...LASTING, 'c', 'd']

interface Sent {
  readonly qos: number
  /** Names of the sessions, each life another, that it was sent to. */
  readonly to: Set<string>
  isSettled: boolean
  /** QoS 2 went with its session. */
  isGone: boolean
}

class Run {
  rig!: Rig
  readonly sent = new Map<string, Sent>()
  readonly clients = new Map<string, Client>()
  /** How many deliveries of a client were looked at. */
  readonly seen = new Map<Client, number>()
  readonly lives = new Map<string, number>()
  /** By session: what the naive receiver has and has not answered. */
  readonly held = new Map<string, Set<string>>()
  /** The payload of a delivery, by session and sequence. */
  readonly places = new Map<string, string>()
  count = 0
  /** QoS 2 that never left, but may have for all that a broker knows after a crash: it ended with its session. */
  unsent = 0

  async start(): Promise<void> {
    this.rig = await openRig()
    this.connect('a', false)
    await this.rig.flush()
  }

  life(name: string): string {
    return `${name}${this.lives.get(name) ?? 0}`
  }

  connect(name: string, isClean: boolean): void {
    const wasThere = this.rig.session(name) !== undefined
    const isPassing = !LASTING.includes(name)
    if (isClean || !wasThere || (isPassing && this.clients.has(name))) this.ended(name)
    const client = new Client(this.rig, name)
    client.inflightMax = INFLIGHT
    client.open({ clean: isClean, expiry: isPassing ? 0 : 3_600 })
    this.clients.set(name, client)
    if (!client.result.present) this.subscribe(name)
  }

  subscribe(name: string): void {
    const { session } = this.clients.get(name)!
    const common = { noLocal: false, retainAsPublished: false, retainHandling: 0, identifier: 0 }
    expect(subscribe(this.rig.broker, session!, TEXT, { ...common, qos: 2 })).toBe(2)
  }

  /** The session has ended: what it had of QoS 2 is gone, the rest is somebody else's. */
  ended(name: string): void {
    this.look()
    for (const payload of this.held.get(this.life(name)) ?? []) {
      const sent = this.sent.get(payload)!
      if (sent.qos === 2 && !sent.isSettled) sent.isGone = true
    }
    const queue = this.rig.session(name)?.queue
    for (const sequence of queue === undefined ? [] : entriesOf(queue)) {
      const isOld = sequence < queue!.redeliveredBelow
      if (isOld && !this.places.has(`${this.life(name)} ${sequence}`)) this.unsent++
    }
    this.lives.set(name, (this.lives.get(name) ?? 0) + 1)
    this.clients.delete(name)
  }

  close(name: string): void {
    const client = this.clients.get(name)
    if (client === undefined) return
    this.look()
    client.close('lost')
    if (!LASTING.includes(name)) this.ended(name)
    this.clients.delete(name)
  }

  publish(qos: number): void {
    const payload = `${++this.count}`
    this.sent.set(payload, { qos, to: new Set(), isSettled: false, isGone: false })
    new Client(this.rig, 'p').open().publish('t', payload, { qos, packetId: qos === 2 ? 1 : 0 })
  }

  /** Takes note of what came: QoS 2 to one session only, no session beyond its credit. */
  look(): void {
    for (const [name, client] of this.clients) {
      const life = this.life(name)
      const held = this.held.get(life) ?? new Set()
      this.held.set(life, held)
      for (const { payload, qos, sequence } of client.got.slice(this.seen.get(client) ?? 0)) {
        const sent = this.sent.get(payload)!
        expect(qos).toBe(sent.qos)
        expect(sent.isSettled && sent.qos === 2, `${payload} came again`).toBe(false)
        sent.to.add(life)
        held.add(payload)
        this.places.set(`${life} ${sequence}`, payload)
        if (qos === 2) expect([...sent.to], `${payload} of QoS 2`).toEqual([life])
      }
      this.seen.set(client, client.got.length)
      expect(client.session?.queue.unackedCount ?? 0).toBeLessThanOrEqual(INFLIGHT)
    }
  }

  acknowledge(name: string, a: number): void {
    const client = this.clients.get(name)
    if (client === undefined || client.session === null) return
    this.look()
    const { queue } = client.session
    const open = [...queue.openSequences()]
    const sequence = open[a % Math.max(open.length, 1)] ?? NOTHING
    if (sequence === NOTHING || !queue.find(sequence)) return
    const isQos2 = (queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT === 2
    if (isQos2 && (queue.flags & ENTRY_STATE) !== RELEASED) {
      received(this.rig.broker, client.session, sequence)
      return
    }
    const payload = this.places.get(`${this.life(name)} ${sequence}`)!
    this.sent.get(payload)!.isSettled = true
    settle(this.rig.broker, queue, sequence)
    wakeSession(this.rig.broker, client.session)
  }

  async crash(isInOrder: boolean): Promise<void> {
    // What is on its way to a session that ends with its connection must be there, to be known as gone.
    for (let left = 3; left > 0; left--) {
      await this.rig.flush()
      await turns(4)
    }
    this.look()
    const names = [...this.clients.keys()]
    for (const name of names) if (!LASTING.includes(name)) this.ended(name)
    this.clients.clear()
    this.rig = isInOrder ? await this.rig.restart() : await this.rig.crash()
    if (!this.rig.session('b')) this.ended('b')
  }

  /** When all is quiet: what waits is in order, nobody with credit is passed over, all are accounted for. */
  async check(): Promise<void> {
    await this.rig.flush()
    await turns(6)
    this.look()
    const { queue } = this.rig.vhost.groups.get(TEXT)!
    if (queue.readyCount > 0) {
      for (const { session } of this.clients.values()) {
        expect(session!.queue.count, 'somebody had credit').toBe(INFLIGHT)
      }
    }
    let places = queue.readyCount
    for (const session of this.rig.broker.state.sessions.values()) places += session.queue.count
    const open = [...this.sent.values()].filter(one => !one.isSettled && !one.isGone).length
    expect(places).toBe(open - this.unsent)
    let waiting = 0
    for (let at = queue.after(0); at !== NOTHING; at = queue.after(at)) {
      if ((queue.flags & ENTRY_STATE) === READY) waiting++
    }
    expect(waiting).toBe(queue.readyCount)
  }
}

/** QoS 2 that a session's queue holds. */
function entriesOf(queue: Queue): number[] {
  const found: number[] = []
  for (let at = queue.after(0); at !== NOTHING; at = queue.after(at)) {
    if ((queue.flags & ENTRY_QOS) >> ENTRY_QOS_SHIFT === 2) found.push(at)
  }
  return found
}

const op = fc.tuple(
  fc.constantFrom(
    ...(['connect', 'close', 'publish', 'publish', 'publish', 'acknowledge'] as const),
    ...(['acknowledge', 'check', 'crash', 'discard', 'leave', 'flush'] as const)
  ),
  fc.nat(1_000),
  fc.nat(1_000)
)

async function apply(run: Run, [name, a, b]: readonly [string, number, number]): Promise<void> {
  const who = NAMES[a % NAMES.length]!
  if (name === 'connect') run.connect(who, false)
  else if (name === 'close') run.close(who)
  else if (name === 'publish') run.publish(1 + (b % 2))
  else if (name === 'acknowledge') run.acknowledge(who, b)
  else if (name === 'check') await run.check()
  else if (name === 'crash' && b % 3 === 0) await run.crash(b % 2 === 0)
  else if (name === 'discard' && who === 'b') {
    // What waits for the disk was not sent: it goes on to others.
    await run.rig.flush()
    run.connect('b', true)
  } else if (name === 'flush') await run.rig.flush()
  else if (name === 'leave' && who !== 'a' && run.clients.has(who)) {
    unsubscribe(run.rig.broker, run.clients.get(who)!.session!, TEXT)
    run.subscribe(who)
  }
}

describe('a shared group', () => {
  it('has every message in one place, in order, with QoS 2 for one session only, v5 [MQTT-4.8.2-5]', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(op, { minLength: 1, maxLength: 80, size: 'max' }), async list => {
        const run = new Run()
        await run.start()
        for (const each of list) await apply(run, each)
        await run.check()
        expect(run.rig.lines.filter(({ level }) => (level as number) >= 50)).toEqual([])
        run.rig.stop()
        run.rig.disk.isOff = true
      }),
      { numRuns: Number(process.env['MOTEMQ_SHARED_RUNS'] ?? 100) }
    )
  })
})
