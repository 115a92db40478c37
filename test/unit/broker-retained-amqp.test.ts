import { afterEach, beforeEach, expect, it } from 'vitest'
import { Compaction } from '../../src/broker/compaction.ts'
import { KIND } from '../../src/core/records/kinds.ts'
import { Backend, openRig, type Rig } from '../support/broker-rig.ts'

let rig: Rig

beforeEach(async () => {
  rig = await openRig()
})

afterEach(() => rig.close())

it('what an AMQP client had retained is under its topic after a compaction and a crash', async () => {
  const backend = new Backend(rig)
  backend.retain = true
  backend.publish('amq.topic', 'a.b/c', 'x')
  await rig.flush()
  const slot = rig.vhost.retained.get('a/b.c')!
  const { segment, offset } = slot
  expect(rig.journal.view(segment, offset)).toBe(true)
  const { viewBuffer, viewStart, viewEnd } = rig.journal
  const record = Buffer.from(viewBuffer.subarray(viewStart, viewEnd))
  const compaction = new Compaction(rig.broker)
  compaction.compact(KIND.message, record, 0, record.length, segment, offset)
  const moved = rig.vhost.retained.get('a/b.c')!
  expect([moved.segment, moved.offset]).not.toEqual([segment, offset])
  rig = await rig.crash()
  expect(rig.vhost.retained.get('a/b.c')).toMatchObject({ bytes: 1, sequence: slot.sequence })
  expect(rig.vhost.retained.count).toBe(1)
})
