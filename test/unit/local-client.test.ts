import { pino } from 'pino'
import { beforeEach, describe, expect, it } from 'vitest'
import { Broker } from '../../src/broker/broker.ts'
import { Owner } from '../../src/broker/owner.ts'
import { LocalClient, type LocalDelivery } from '../../src/broker/local-client.ts'
import { DEFAULT_LIMITS } from '../../src/core/limits.ts'
import { Principal } from '../../src/core/principal.ts'
import { ManualClock } from '../../src/lib/clock.ts'
import { MemoryJournal } from '../support/memory-journal.ts'

let broker: Broker
let journal: MemoryJournal
let client: LocalClient

beforeEach(() => {
  const clock = new ManualClock(1_000_000, 1_700_000_000_000)
  broker = new Broker({
    limits: { ...DEFAULT_LIMITS, inflightMax: 2 },
    clock,
    log: pino({ level: 'silent' }),
    random: bytes => Buffer.alloc(bytes, 1),
    principalOf: () => new Principal('', [], '/', [], [], true)
  })
  journal = new MemoryJournal(clock)
  journal.isAutomatic = false
  journal.onDurable = ticket => {
    for (const publisher of [...broker.waiting]) publisher.onDurable(ticket)
  }
  broker.attach(journal)
  client = new LocalClient(broker, broker.state.vhost('/')!)
})

const turn = () => new Promise<void>(resolve => setImmediate(resolve))
const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await turn()
}

function publish(topic: string, given: { qos?: number; retain?: boolean } = {}) {
  const outcome = { is: 'pending' }
  const { qos = 1, retain = false } = given
  const payload = Buffer.from('x')
  client
    .publish({ topic, payload, qos, retain, properties: Buffer.alloc(0), expirySeconds: 0 })
    .then(
      () => {
        outcome.is = 'durable'
      },
      (error: { code: string }) => {
        outcome.is = error.code
      }
    )
  return outcome
}

describe('who is held back', () => {
  it('goes on one after the other, when what one held back fills the buffers again', () => {
    const owner = new Owner(broker)
    const resumed: string[] = []
    for (const name of ['a', 'b', 'c']) {
      const publisher = new LocalClient(broker, broker.state.vhost('/')!)
      publisher.onResume = () => {
        resumed.push(name)
        journal.isCrowded = true
      }
    }
    for (let time = 0; time < 6; time++) {
      owner.onBackpressure(true)
      journal.isCrowded = false
      owner.onBackpressure(false)
    }
    expect(resumed.join('')).toBe('abcabc')
  })
})

describe('publish in the process', () => {
  it('is settled by the sync of its record, not before', async () => {
    const first = publish('a', { retain: true })
    await turns(3)
    expect(first.is).toBe('pending')
    journal.sync()
    const second = publish('b', { retain: true })
    await turns(3)
    expect([first.is, second.is]).toEqual(['durable', 'pending'])
    journal.sync()
    await turn()
    expect(second.is).toBe('durable')
    expect(broker.waiting.size).toBe(0)
  })

  it('waits for nothing where nothing is kept', async () => {
    const outcomes = [publish('a'), publish('a', { qos: 0 })]
    await turn()
    expect(outcomes.map(({ is }) => is)).toEqual(['durable', 'durable'])
  })

  it('waits outside while too much is on its way to the disk, and keeps its order', async () => {
    const seen: string[] = []
    const handler = ({ topic }: LocalDelivery) => seen.push(topic)
    client.subscribe('#', { qos: 0, retained: false, handler })
    broker.isPaused = true
    publish('a')
    publish('b')
    await turns(3)
    expect(seen).toEqual([])
    broker.isPaused = false
    publish('c')
    client.onResume()
    await turns(3)
    expect(seen).toEqual(['a', 'b', 'c'])
  })

  it('is refused when too much waits there, or the disk is full', async () => {
    broker.isPaused = true
    for (let i = 0; i < 10_000; i++) publish('a')
    const more = publish('a')
    await turn()
    expect(more.is).toBe('quotaExceeded')
    broker.isPaused = false
    client.onResume()
    broker.diskAlarm = true
    broker.judge()
    const kept = publish('a', { retain: true })
    await turn()
    expect(kept.is).toBe('diskAlarm')
  })

  it('is told when the journal fails, or the broker ends first', async () => {
    const first = publish('a', { retain: true })
    broker.events.emit('journalFailed', { message: 'input/output error' })
    const second = publish('b', { retain: true })
    client.close()
    await turn()
    expect([first.is, second.is]).toEqual(['journalFailed', 'shuttingDown'])
    expect(broker.waiting.size + broker.publishers.size).toBe(0)
  })
})

describe('a subscription in the process', () => {
  it('has no more open than the bound, and takes the next when a handler is done', async () => {
    const finish: (() => void)[] = []
    const handler = () => new Promise<void>(resolve => finish.push(resolve))
    client.subscribe('#', { qos: 1, retained: false, handler })
    for (let i = 0; i < 5; i++) publish('a')
    await turns(3)
    const queue = [...broker.state.sessions.values()][0]!.queue
    expect([queue.unackedCount, queue.readyCount, finish.length]).toEqual([2, 3, 1])
    for (let i = 0; i < 5; i++) {
      finish[i]!()
      await turns(3)
    }
    expect([queue.unackedCount, queue.readyCount, finish.length]).toEqual([0, 0, 5])
    expect(broker.counters.mqttSent).toEqual([0, 5, 0])
  })

  it('is gone from the broker when it is closed, with what waited counted', async () => {
    const handler = () => undefined
    const subscription = client.subscribe('#', { qos: 0, retained: false, handler })
    publish('a', { qos: 0 })
    subscription.close()
    await turns(2)
    expect(broker.counters.dropped.get('closed')).toBe(1)
    expect(broker.counters.mqttSent[0]).toBe(0)
    expect(broker.state.sessions.size).toBe(0)
  })
})
