/** An operator of the crash tests: declares, deletes and purges queues, adds and removes users, and knows what must be. */
import type { Broker } from '../../src/broker/broker.ts'
import { bindQueue } from '../../src/broker/bindings.ts'
import { declareQueue, deleteQueue, purgeQueue } from '../../src/broker/queues.ts'
import { deleteUser, setUser } from '../../src/broker/users.ts'
import type { Random } from './random.ts'
import type { SimMessages } from './sim-messages.ts'

export const PURGED = { queue: 'q.purged', topic: '2/a' } as const
const OBJECTS = 4

/** What an operator asked for, by its name: what it is to be once `ticket` is durable. */
interface Wish {
  readonly ticket: number
  readonly isThere: boolean
}

/** What was in a queue when it was purged. */
interface Purge {
  readonly ticket: number
  readonly keys: ReadonlySet<string>
  readonly isCounted: boolean
}

export class SimOperator {
  readonly #messages: SimMessages
  readonly #random: Random
  readonly #wishes = new Map<string, Wish[]>()
  readonly #purged: Purge[] = []

  constructor(messages: SimMessages, random: Random) {
    this.#messages = messages
    this.#random = random
  }

  /** Adds or removes a user or a queue. */
  operate(broker: Broker): void {
    if (broker.refusal !== 0) return
    const vhost = broker.vhosts.get('/')!
    const name = `e${1 + Math.floor(this.#random() * OBJECTS)}`
    const common = { principal: null, owner: null }
    if (this.#random() < 0.4) {
      const hadUser = broker.state.users.has(name)
      const user = { name, tags: [], passwordHash: '', scram: '', resources: [], topics: [] }
      const ticket = hadUser ? deleteUser(broker, name) : setUser(broker, user)
      this.#wish(`user ${name}`, ticket, !hadUser)
      return
    }
    if (vhost.queues.has(name)) {
      const { ticket } = deleteQueue(broker, vhost, name, {
        ...common,
        ifUnused: false,
        ifEmpty: false
      })
      this.#wish(`queue ${name}`, ticket, false)
      this.#wish(`binding ${name}`, ticket, false)
      return
    }
    const flags = { passive: false, durable: true, exclusive: false, autoDelete: false }
    const { ticket } = declareQueue(broker, vhost, { ...flags, ...common, name, arguments: [] })
    this.#wish(`queue ${name}`, ticket, true)
    const key = `4.${name}`
    const request = { ...common, queue: name, exchange: 'amq.topic', key, arguments: [] }
    this.#wish(`binding ${name}`, bindQueue(broker, vhost, request).ticket, true)
  }

  #wish(name: string, ticket: number, isThere: boolean): void {
    const wishes = this.#wishes.get(name) ?? [{ ticket: 0, isThere: false }]
    wishes.push({ ticket, isThere })
    this.#wishes.set(name, wishes)
  }

  /** The power is gone: what had its answer must be so; what had not may be either. */
  settle(durable: number): void {
    for (const wishes of this.#wishes.values()) {
      const last = wishes.findLastIndex(wish => wish.ticket <= durable)
      wishes.splice(0, Math.max(0, last))
    }
    for (const purge of this.#purged.splice(0)) {
      // Of one that was not durable nobody was told; its ticket will be another record's.
      if (purge.isCounted || purge.ticket <= durable)
        this.#purged.push({ ...purge, isCounted: true })
    }
  }

  /** After a start: what had its answer is so. */
  check(broker: Broker): void {
    const vhost = broker.vhosts.get('/')!
    const bound = new Set<string>()
    vhost.exchanges.get('amq.topic')!.forEachBinding(({ target }) => {
      bound.add((target as { name: string }).name)
    })
    for (const [label, wishes] of this.#wishes) {
      const [kind, name = ''] = label.split(' ')
      let isThere = bound.has(name)
      if (kind === 'queue') isThere = vhost.queues.has(name)
      if (kind === 'user') isThere = broker.state.users.has(name)
      // The first is certain, the others were not answered.
      const isPossible = wishes.some(wish => wish.isThere === isThere)
      if (!isPossible) this.#messages.violations.push(`${label}: ${isThere ? 'came back' : 'lost'}`)
      this.#wishes.set(label, [{ ticket: 0, isThere }])
    }
  }

  purge(broker: Broker): void {
    if (broker.journal.failed) return
    const keys = new Set<string>()
    const { counts } = this.#messages.flow(PURGED.queue)
    for (const [key, message] of this.#messages.all) {
      const isIn = message.topic === PURGED.topic && message.isAcked && message.isOnce
      if (isIn && !counts.has(key)) keys.add(key)
    }
    const vhost = broker.vhosts.get('/')!
    const { ticket } = purgeQueue(broker, vhost, PURGED.queue, { principal: null, owner: null })
    if (ticket > 0) this.#purged.push({ ticket, keys, isCounted: false })
  }

  /** What was purged for certain has not come. */
  checkPurged(): void {
    const { counts } = this.#messages.flow(PURGED.queue)
    for (const { keys, isCounted } of this.#purged.splice(0)) {
      if (!isCounted) continue
      for (const key of keys) {
        if (counts.has(key))
          this.#messages.violations.push(`q.purged: ${key} was purged and came back`)
      }
    }
  }
}
