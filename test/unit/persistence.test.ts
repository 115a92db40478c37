import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { JournalError } from '../../src/journal/journal-error.ts'
import { openJournal } from '../../src/journal/log.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { ByteWriter } from '../../src/lib/byte-writer.ts'
import { BytesReader } from '../../src/lib/bytes-reader.ts'
import { MessageIds } from '../../src/persistence/message-ids.ts'
import type { PersistedPacket } from '../../src/persistence/packet.ts'
import { readValue, writeValue } from '../../src/persistence/values.ts'
import {
  FOLDER,
  makePersistence,
  openPersistence,
  publish,
  SMALL_LIMITS,
  turns,
  waiting
} from '../support/persistence-rig.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'
import { ToyStore } from '../support/sim-disk-store.ts'

const client = { id: 'c' }
const toClient = { clientId: 'c' }

describe('values', () => {
  const plain = fc.letrec(tie => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(undefined, null, true, false),
      fc.integer(),
      fc.double({ noNaN: true }),
      fc.string(),
      fc.uint8Array().map(bytes => Buffer.from(bytes)),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.string(), tie('value'), { maxKeys: 4, noNullPrototype: true })
    )
  })).value

  test('come back as they were written', () => {
    fc.assert(
      fc.property(plain, value => {
        const writer = new ByteWriter()
        writeValue(writer, value)
        const reader = new BytesReader(writer.toBuffer())
        expect(readValue(reader)).toStrictEqual(value)
        expect(reader.remaining).toBe(0)
      })
    )
  })

  test('that no record can hold are refused', () => {
    const cycle: { self?: unknown } = {}
    cycle.self = cycle
    for (const value of [() => 1, Symbol('s'), 1n, cycle]) {
      const write = () => writeValue(new ByteWriter(), value)
      expect(write).toThrow(expect.objectContaining({ code: 'not-storable' }))
    }
  })
})

test('of several entries with one packet identifier the oldest is meant, then the next', () => {
  const ids = new MessageIds()
  for (const sequence of [5000, 3, 70, 1500]) ids.set(sequence, 42)
  ids.set(4, 7)
  const seen: number[] = []
  for (let at = ids.oldest(42); at !== 0; at = ids.oldest(42)) {
    seen.push(at)
    ids.delete(at)
  }
  expect([seen, ids.oldest(7), ids.size]).toEqual([[3, 70, 1500, 5000], 4, 1])
})

describe('a queue', () => {
  test('holds one copy of a packet for a client, however many of its filters match', async () => {
    const { persistence } = await openPersistence()
    const matched = ['a/#', 'a/+', 'a/b'].map(topic => ({ ...toClient, topic, qos: 1 }))
    await persistence.outgoingEnqueueCombi(matched, publish('a/b', 'once'))
    expect(await waiting(persistence, 'c')).toEqual(['once'])
    await persistence.close()
  })

  test('keeps several PUBRELs apart, and over a restart', async () => {
    const { disk, persistence } = await openPersistence()
    for (let messageId = 1; messageId <= 4; messageId++) {
      const packet = publish('a', `p${messageId}`, 2)
      await persistence.outgoingEnqueue(toClient, packet)
      await persistence.outgoingUpdate(client, { ...packet, messageId })
    }
    await persistence.outgoingUpdate(client, { cmd: 'pubrel', messageId: 3 })
    await persistence.outgoingUpdate(client, { cmd: 'pubrel', messageId: 1 })
    const left = ['pubrel 1', 'p2', 'pubrel 3', 'p4']
    expect(await waiting(persistence, 'c')).toEqual(left)
    const { persistence: again } = await openPersistence({ disk: disk.restart() })
    expect(await waiting(again, 'c')).toEqual(left)
    const cleared = await again.outgoingClearMessageId(client, { cmd: 'pubcomp', messageId: 3 })
    expect(cleared).toEqual({ cmd: 'pubrel', messageId: 3 })
    expect(await waiting(again, 'c')).toEqual(['pubrel 1', 'p2', 'p4'])
    await again.close()
  })

  test('says of a packet that is not in it that there is none', async () => {
    const { persistence } = await openPersistence()
    await persistence.outgoingEnqueue(toClient, publish('a', 'x'))
    const other = { ...publish('a', 'y'), messageId: 5 }
    await expect(persistence.outgoingUpdate(client, other)).rejects.toMatchObject({
      code: 'no-such-packet'
    })
    expect(await persistence.outgoingClearMessageId(client, { messageId: 5 })).toBeUndefined()
    // What Aedes does with a packet that it filters: nothing may go that was not meant.
    expect(await persistence.outgoingClearMessageId(client, publish('a', 'x'))).toBeUndefined()
    expect(await waiting(persistence, 'c')).toEqual(['x'])
    await persistence.close()
  })

  test('gives a packet to one of several calls that clear it, and nothing is left to clear', async () => {
    const { disk, persistence } = await openPersistence()
    const packet = { ...publish('a', 'x'), messageId: 1 }
    await persistence.outgoingEnqueue(toClient, packet)
    await persistence.outgoingUpdate(client, packet)
    const calls = [1, 2, 3].map(() => persistence.outgoingClearMessageId(client, packet))
    const late = Promise.allSettled([
      persistence.outgoingUpdate(client, { ...packet, messageId: 2 })
    ])
    const cleared = await Promise.all(calls)
    expect(cleared.filter(it => it !== undefined)).toHaveLength(1)
    await late
    expect(await persistence.outgoingClearMessageId(client, { messageId: 2 })).toBeUndefined()
    expect(persistence.stats.liveBytes).toBe(0)
    const { logged } = await openPersistence({ disk: disk.restart() })
    expect(logged.filter(line => line.startsWith('error'))).toEqual([])
  })

  test('leaves nothing behind when all of it is gone', async () => {
    const { persistence } = await openPersistence()
    await persistence.addSubscriptions(client, [{ topic: 'a', qos: 1 }])
    const packet = publish('a', 'x')
    await persistence.outgoingEnqueue(toClient, packet)
    await persistence.outgoingUpdate(client, { ...packet, messageId: 1 })
    await persistence.incomingStorePacket(client, { ...publish('a', 'i', 2), messageId: 1 })
    await persistence.putWill(client, { topic: 'w', payload: Buffer.from('w') })
    await persistence.storeRetained({ ...publish('r', 'r'), retain: true })
    expect(persistence.stats.liveBytes).toBeGreaterThan(0)
    await persistence.outgoingClearMessageId(client, { messageId: 1 })
    await persistence.incomingDelPacket(client, { messageId: 1 })
    await persistence.delWill(client)
    await persistence.cleanSubscriptions(client)
    await persistence.storeRetained({ ...publish('r', ''), retain: true })
    expect(persistence.stats.liveBytes).toBe(0)
    expect(await persistence.countOffline()).toEqual({ subsCount: 0, clientsCount: 0 })
    await persistence.close()
  })
})

describe('a queue of which most lies on the disk', () => {
  const COUNT = 12_000

  test('is read in order, updated, released and cleared, over a restart', async () => {
    const { disk, persistence } = await openPersistence({ hotEntriesMax: 0 })
    for (let i = 0; i < COUNT; i += 500) {
      const some = Array.from({ length: 500 }, (_, k) => publish('a', String(i + k), 2))
      await Promise.all(some.map(packet => persistence.outgoingEnqueue(toClient, packet)))
      await turns(3)
    }
    const all = Array.from({ length: COUNT }, (_, i) => String(i))
    expect(await waiting(persistence, 'c')).toEqual(all)
    await persistence.close()
    const { persistence: again } = await openPersistence({
      disk: disk.restart(),
      hotEntriesMax: 0
    })
    let at = 0
    const left: string[] = []
    for await (const packet of again.outgoingStream(client) as AsyncIterable<PersistedPacket>) {
      const messageId = 1 + (at % 65_535)
      if (at % 10 === 0) {
        await again.outgoingUpdate(client, { ...packet, messageId })
        if (at % 20 === 0) await again.outgoingUpdate(client, { cmd: 'pubrel', messageId })
        else {
          const cleared = await again.outgoingClearMessageId(client, { messageId })
          expect(cleared).toMatchObject({ payload: packet.payload, messageId })
        }
      }
      if (at % 20 === 0) left.push(`pubrel ${messageId}`)
      else if (at % 10 !== 0) left.push(String(at))
      at++
    }
    expect(at).toBe(COUNT)
    expect(await waiting(again, 'c')).toEqual(left)
    const { persistence: third } = await openPersistence({ disk: disk.restart() })
    expect(await waiting(third, 'c')).toEqual(left)
    await third.close()
  }, 60_000)
})

describe('wills', () => {
  const will = (payload: string) => ({ topic: 'w', payload: Buffer.from(payload), qos: 1 })
  const streamed = async (persistence: ReturnType<typeof makePersistence>['persistence']) => {
    const wills = (await persistence
      .streamWill({ b1: Date.now(), b2: Date.now() })
      .toArray()) as PersistedPacket[]
    return wills.map(({ clientId, brokerId }) => [clientId, brokerId])
  }

  test('of a broker that is gone are streamed, those of one that is there are not', async () => {
    const { disk, persistence } = await openPersistence({ brokerId: 'dead' })
    await persistence.putWill(client, will('old'))
    const { persistence: again } = await openPersistence({ disk: disk.restart(), brokerId: 'b2' })
    await again.putWill({ id: 'new' }, will('new'))
    // Aedes gives it a counter of its own broker: not with a name that a packet of `dead` may have.
    expect(await streamed(again)).toEqual([['c', 'dead before b2']])
    await again.close()
  })

  test('of a broker that is gone count for the counter of the broker that publishes them', async () => {
    const { persistence, disk } = await openPersistence({ brokerId: 'b2' })
    const packet = { ...publish('w', 'will'), brokerId: 'dead before b2', brokerCounter: 9 }
    await persistence.outgoingEnqueue(toClient, packet)
    await persistence.close()
    const { persistence: again, broker } = await openPersistence({
      disk: disk.restart(),
      brokerId: 'b2'
    })
    expect(broker.counter).toBeGreaterThanOrEqual(9)
    await again.close()
  })

  test('of a broker that came back with its id are streamed as those of another', async () => {
    const { disk, persistence } = await openPersistence({ brokerId: 'b1' })
    await persistence.putWill(client, will('old'))
    expect(await streamed(persistence)).toEqual([])
    const { persistence: again } = await openPersistence({ disk: disk.restart(), brokerId: 'b1' })
    expect(await streamed(again)).toEqual([['c', 'b1 before b1']])
    expect(await again.getWill(client)).toMatchObject({ brokerId: 'b1' })
    await again.putWill(client, will('anew'))
    expect(await streamed(again)).toEqual([])
    await again.close()
  })
})

test('a broker that comes back with its id gives no counter twice', async () => {
  const { disk, persistence } = await openPersistence()
  const packet = { ...publish('a', 'old'), brokerCounter: 17 }
  await persistence.outgoingEnqueue(toClient, packet)
  await persistence.close()
  const { persistence: again, broker } = await openPersistence({ disk: disk.restart() })
  expect(broker.counter).toBeGreaterThanOrEqual(17)
  await again.close()
  const other = await openPersistence({ disk: disk.restart(), brokerId: 'other' })
  expect(other.broker.counter).toBe(0)
})

describe('a disk', () => {
  test('that is full refuses what is added, lets what is there be taken, and goes on', async () => {
    const disk = new SimulatedDisk({ seed: 1, capacityBytes: 6 * 1024 * 1024 })
    const limits = { ...SMALL_LIMITS, redFreeBytes: 1024 * 1024, spacePollMs: 20 }
    const { persistence } = await openPersistence({ disk, limits })
    const large = () => publish('a', 'x'.repeat(20_000))
    const enqueue = async () => {
      for (let i = 0; i < 1000; i++) await persistence.outgoingEnqueue(toClient, large())
    }
    await expect(enqueue()).rejects.toMatchObject({
      code: 'disk-full',
      message: expect.stringContaining(FOLDER)
    })
    const adding = [
      persistence.storeRetained({ ...large(), retain: true }),
      persistence.addSubscriptions(client, [{ topic: 'a', qos: 1 }]),
      persistence.incomingStorePacket(client, { ...large(), messageId: 1 }),
      persistence.putWill(client, { topic: 'w', payload: Buffer.from('w') })
    ]
    for (const result of await Promise.allSettled(adding)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'disk-full' } })
    }
    const stored = (await persistence.outgoingStream(client).toArray()) as PersistedPacket[]
    expect(stored.length).toBeGreaterThan(50)
    await persistence.outgoingUpdate(client, { ...stored[0]!, messageId: 9 })
    expect(await persistence.outgoingClearMessageId(client, { messageId: 9 })).toBeDefined()
    disk.capacityBytes *= 4
    await expect
      .poll(() =>
        persistence.outgoingEnqueue(toClient, large()).then(
          () => true,
          () => false
        )
      )
      .toBe(true)
    await persistence.close()
  })

  test('that fails rejects what waits for it and all that comes later, and nothing is lost', async () => {
    const { disk, persistence } = await openPersistence()
    await persistence.outgoingEnqueue(toClient, publish('a', 'stored'))
    disk.intercept = kind => (kind === 'sync' || kind === 'write' ? { code: 'EIO' } : null)
    const failed = { code: 'failed' }
    const call = () => persistence.outgoingEnqueue(toClient, publish('a', 'lost'))
    await expect(call()).rejects.toMatchObject(failed)
    await expect(call()).rejects.toMatchObject(failed)
    await expect(persistence.delWill(client)).rejects.toMatchObject(failed)
    const { persistence: again } = await openPersistence({ disk: disk.restart() })
    expect((await waiting(again, 'c'))[0]).toBe('stored')
    await again.close()
  })

  test('with a damaged body costs that packet alone, and says so', async () => {
    const { disk, persistence } = await openPersistence()
    for (const text of ['one', 'NEEDLE', 'three']) {
      await persistence.outgoingEnqueue(toClient, publish('a', text.repeat(9000)))
    }
    await persistence.close()
    const after = disk.restart()
    const { persistence: again, logged } = await openPersistence({ disk: after })
    for (const name of await after.list(FOLDER)) {
      const bytes = after.bytesOf(`${FOLDER}/${name}`)
      const at = bytes.indexOf('NEEDLE')
      if (at >= 0) bytes[at] = 0
    }
    expect((await waiting(again, 'c')).map(text => text.slice(0, 3))).toEqual(['one', 'thr'])
    expect(logged).toContain('error: a queued packet is damaged on the disk: it is lost')
    expect(await waiting(again, 'c')).toHaveLength(2)
    await again.close()
  })
})

describe('a folder', () => {
  test('is refused while another instance has it, and free when that is closed', async () => {
    const { disk, persistence } = await openPersistence()
    const second = makePersistence({ disk })
    await expect(second.persistence.setup(second.broker)).rejects.toMatchObject({ code: 'locked' })
    await second.persistence.close()
    await Promise.all([persistence.close(), persistence.close(), persistence.destroy()])
    await persistence.destroy()
    const third = await openPersistence({ disk })
    await third.persistence.close()
  })

  const openBroker = (disk: SimulatedDisk) =>
    openJournal({
      folder: FOLDER,
      disk,
      owner: new ToyStore(),
      clock: systemClock,
      random: bytes => Buffer.alloc(bytes, 7)
    })

  test('of a persistence is refused by a broker', async () => {
    const { disk, persistence } = await openPersistence()
    await persistence.close()
    const opening = openBroker(disk)
    await expect(opening).rejects.toBeInstanceOf(JournalError)
    await expect(opening).rejects.toMatchObject({
      code: 'foreign-folder',
      message: expect.stringMatching(/belongs to an Aedes persistence.*not to a broker/)
    })
  })

  test('of a broker is refused by a persistence', async () => {
    const disk = new SimulatedDisk({ seed: 2 })
    const { journal } = await openBroker(disk)
    await journal.close()
    await expect(openPersistence({ disk })).rejects.toMatchObject({
      code: 'foreign-folder',
      message: expect.stringMatching(/belongs to a broker, not to an Aedes persistence/)
    })
  })
})

test('a persistence that is not open refuses every call, and its streams end with that error', async () => {
  const { persistence, broker } = makePersistence()
  const closed = { code: 'closed' }
  await expect(persistence.storeRetained(publish('a', 'x'))).rejects.toMatchObject(closed)
  await expect(persistence.subscriptionsByTopic('a')).rejects.toMatchObject(closed)
  await persistence.setup(broker)
  await persistence.close()
  await expect(persistence.outgoingEnqueue(toClient, publish('a', 'x'))).rejects.toMatchObject(
    closed
  )
  await expect(persistence.outgoingStream(client).toArray()).rejects.toMatchObject(closed)
  await expect(persistence.createRetainedStream('#').toArray()).rejects.toMatchObject(closed)
  await expect(persistence.setup(broker)).rejects.toMatchObject(closed)
})
