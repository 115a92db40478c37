import { describe, expect, test } from 'vitest'
import type { JournalPersistence } from '../../src/persistence/persistence.ts'
import { openPersistence, publish, turns } from '../support/persistence-rig.ts'

const client = { id: 'c' }
const subscription = { clientId: 'c', topic: 'a', qos: 1 }

/** What was there before, and is on the disk. */
const queued = publish('a', 'queued', 2)
const given = { ...publish('a', 'given', 2), messageId: 7 }

async function prepare(persistence: JournalPersistence): Promise<void> {
  await persistence.storeRetained({ ...publish('old', 'x'), retain: true })
  await persistence.addSubscriptions(client, [{ topic: 'a', qos: 1 }])
  await persistence.outgoingEnqueue(subscription, queued)
  await persistence.outgoingEnqueue(subscription, given)
  await persistence.outgoingUpdate(client, given)
  await persistence.incomingStorePacket(client, { ...publish('a', 'in', 2), messageId: 3 })
  await persistence.putWill(client, { topic: 'w', payload: Buffer.from('w'), qos: 0 })
}

const CALLS: Readonly<Record<string, (persistence: JournalPersistence) => Promise<unknown>>> = {
  storeRetained: it => it.storeRetained({ ...publish('r', 'x'), retain: true }),
  'storeRetained of an empty payload': it =>
    it.storeRetained({ ...publish('old', ''), retain: true }),
  addSubscriptions: it => it.addSubscriptions(client, [{ topic: 'b', qos: 0 }]),
  removeSubscriptions: it => it.removeSubscriptions(client, ['a']),
  cleanSubscriptions: it => it.cleanSubscriptions(client),
  outgoingEnqueue: it => it.outgoingEnqueue(subscription, publish('a', 'new')),
  outgoingEnqueueCombi: it =>
    it.outgoingEnqueueCombi([subscription, { clientId: 'd' }], publish('a', 'new')),
  outgoingUpdate: it => it.outgoingUpdate(client, { ...queued, messageId: 8 }),
  'outgoingUpdate to a PUBREL': it => it.outgoingUpdate(client, { cmd: 'pubrel', messageId: 7 }),
  outgoingClearMessageId: it => it.outgoingClearMessageId(client, { cmd: 'puback', messageId: 7 }),
  incomingStorePacket: it =>
    it.incomingStorePacket(client, { ...publish('a', 'in', 2), messageId: 4 }),
  incomingDelPacket: it => it.incomingDelPacket(client, { messageId: 3 }),
  cleanIncoming: it => it.cleanIncoming(client),
  putWill: it => it.putWill(client, { topic: 'w', payload: Buffer.from('v'), qos: 1 }),
  delWill: it => it.delWill(client)
}

describe('a call is resolved when its record is on the disk, not before:', () => {
  for (const [name, call] of Object.entries(CALLS)) {
    test(name, async () => {
      const { disk, persistence } = await openPersistence()
      await prepare(persistence)
      let release: () => void = () => undefined
      const until = new Promise<void>(resolve => {
        release = resolve
      })
      let syncs = 0
      disk.intercept = kind => {
        if (kind !== 'sync') return null
        syncs++
        return { until }
      }
      let isResolved = false
      const calling = call(persistence).then(() => {
        isResolved = true
      })
      await turns()
      expect([syncs > 0, isResolved]).toEqual([true, false])
      release()
      await calling
      await persistence.close()
    })
  }
})

describe('an answer that something is there, or is gone already, waits for the disk too:', () => {
  const ANSWERS: typeof CALLS = {
    'incomingGetPacket of a packet that is being stored': it =>
      it.incomingGetPacket(client, { messageId: 9 }),
    'a second delWill': it => it.delWill(client),
    'a second outgoingClearMessageId': it => it.outgoingClearMessageId(client, { messageId: 7 }),
    'a second cleanSubscriptions': it => it.cleanSubscriptions(client),
    'outgoingUpdate with the identifier that is being given': it =>
      it.outgoingUpdate(client, { ...queued, messageId: 8 })
  }
  for (const [name, call] of Object.entries(ANSWERS)) {
    test(name, async () => {
      const { disk, persistence } = await openPersistence()
      await prepare(persistence)
      let release: () => void = () => undefined
      const until = new Promise<void>(resolve => {
        release = resolve
      })
      disk.intercept = kind => (kind === 'sync' ? { until } : null)
      const first = [
        persistence.incomingStorePacket(client, { ...publish('a', 'in', 2), messageId: 9 }),
        persistence.delWill(client),
        persistence.outgoingClearMessageId(client, { messageId: 7 }),
        persistence.cleanSubscriptions(client),
        persistence.outgoingUpdate(client, { ...queued, messageId: 8 })
      ]
      let isResolved = false
      const calling = call(persistence).then(() => {
        isResolved = true
      })
      await turns()
      expect(isResolved).toBe(false)
      release()
      await Promise.all([...first, calling])
      await persistence.close()
    })
  }
})

test('a hundred calls at once share a few syncs', async () => {
  const { disk, persistence } = await openPersistence()
  const before = disk.counts.get('sync') ?? 0
  await Promise.all(
    Array.from({ length: 100 }, (_, i) =>
      persistence.outgoingEnqueue({ clientId: `c${i % 10}` }, publish('a', String(i)))
    )
  )
  expect((disk.counts.get('sync') ?? 0) - before).toBeLessThan(5)
  await persistence.close()
})
