import { describe, expect, it } from 'vitest'
import { Move } from '../../src/core/move.ts'
import { NOTHING } from '../../src/core/entries.ts'
import { Queue } from '../../src/core/queue.ts'
import {
  ENTRY_EXPIRES,
  ENTRY_HAS_IDS,
  ENTRY_QOS_SHIFT,
  ENTRY_RETAIN,
  ENTRY_SHARE_SHIFT,
  READY
} from '../../src/core/queue-entry.ts'
import { sessionQueueOptions } from '../../src/core/queue-options.ts'
import { applyRecord } from '../../src/core/records/apply.ts'
import { KIND } from '../../src/core/records/kinds.ts'
import {
  createGroup,
  writeGroup,
  writeMember,
  writeMove
} from '../../src/core/records/shared-group.ts'
import { writePair } from '../../src/core/records/settle.ts'
import { writeSession, writeUnsubscribe } from '../../src/core/records/session.ts'
import { Session } from '../../src/core/session.ts'
import { State } from '../../src/core/state.ts'
import { ByteWriter } from '../../src/lib/byte-writer.ts'

const TEXT = '$share/g/jobs/+'
const SHARE = 3 << ENTRY_SHARE_SHIFT
const FROM = READY | SHARE | ENTRY_EXPIRES | ENTRY_RETAIN | (2 << ENTRY_QOS_SHIFT)
const TO = READY | SHARE | ENTRY_EXPIRES | ENTRY_HAS_IDS | (1 << ENTRY_QOS_SHIFT)
const KEPT = ENTRY_EXPIRES | ENTRY_RETAIN | (2 << ENTRY_QOS_SHIFT)
const MOVE = new Move(4, 11, 9, 21, KEPT, 300, false)
const OPTIONS = {
  qos: 1,
  noLocal: false,
  retainAsPublished: true,
  retainHandling: 2,
  identifier: 300
}

class World {
  readonly claimed = new Map<number, number>()
  readonly state = new State({
    claim: (segment, bytes) => this.claimed.set(segment, (this.claimed.get(segment) ?? 0) + bytes),
    release: (segment, bytes) => this.claimed.set(segment, this.claimed.get(segment)! - bytes)
  })

  apply(kind: number, bytes: Buffer): boolean {
    return applyRecord(this.state, kind, bytes, 0, bytes.length, 1, 0)
  }

  /** What a record of this kind says, made by `write`. */
  replay(kind: number, write: (writer: ByteWriter) => void): boolean {
    return this.apply(kind, recordOf(write))
  }

  get group(): Queue {
    return this.state.groups.get(4)!.queue
  }

  get member(): Queue {
    return this.state.sessions.get(9)!.queue
  }
}

function recordOf(write: (writer: ByteWriter) => void): Buffer {
  const writer = new ByteWriter()
  write(writer)
  return Buffer.from(writer.buffer.subarray(0, writer.length))
}

const session = new Session(
  9,
  'c',
  '/',
  'u',
  new Queue(9, 'c', '/', sessionQueueOptions(true), true)
)
const group = createGroup(4, '/', TEXT, true)
group.queue.nextSequence = 40

const write = {
  session: (writer: ByteWriter) => writeSession(writer, session, true),
  group: (writer: ByteWriter) => writeGroup(writer, group),
  member: (writer: ByteWriter) => writeMember(writer, session, group, OPTIONS),
  move: (writer: ByteWriter) => writeMove(writer, MOVE, 5, 77, 123, TO),
  leave: (writer: ByteWriter) => writeUnsubscribe(writer, 9, TEXT),
  end: (writer: ByteWriter) => writer.varint(4)
}

/** A session that is a member of a group with one message. */
function world(): World {
  const made = new World()
  expect(made.replay(KIND.session, write.session)).toBe(true)
  expect(made.replay(KIND.sharedGroup, write.group)).toBe(true)
  expect(made.replay(KIND.sharedMember, write.member)).toBe(true)
  made.state.insertEntry(made.group, 11, 5, 77, 123, FROM)
  return made
}

describe('records of shared groups', () => {
  it('bring back the group and its members with their options', () => {
    const { state } = world()
    const found = state.groups.get(4)!
    expect([found.text, found.filter, found.queue.nextSequence]).toEqual([TEXT, 'jobs/+', 40])
    expect(found.queue.isDurable).toBe(true)
    expect([...found.members.values()]).toMatchObject([{ ...OPTIONS, groupId: 4 }])
    const matched: unknown[] = []
    state.vhost('/')!.topicExchange.collect('jobs/x', null, matched as never)
    expect(matched).toEqual([found])
  })

  it('make the group of a member that stands before its group', () => {
    const made = new World()
    made.replay(KIND.session, write.session)
    expect(made.replay(KIND.sharedMember, write.member)).toBe(true)
    expect(made.replay(KIND.sharedGroup, write.group)).toBe(true)
    expect(made.group.nextSequence).toBe(40)
    expect(made.state.vhost('/')!.groups.get(TEXT)!.members.size).toBe(1)
  })

  it('move a message with all its flags, and back into its old place', () => {
    const made = world()
    const before = Object.fromEntries(made.claimed)
    expect(made.replay(KIND.sharedMove, write.move)).toBe(true)
    expect([made.group.count, made.member.count]).toEqual([0, 1])
    expect(made.member.find(21)).toBe(true)
    expect([made.member.segment, made.member.offset, made.member.bytes]).toEqual([5, 77, 123])
    expect(made.member.flags).toBe(TO | 0)
    expect(made.group.moves!.get(11)).toMatchObject({ ...MOVE, flags: FROM | 0 })
    expect(Object.fromEntries(made.claimed)).toEqual(before)
    expect(made.replay(KIND.sharedMoveBack, write.move)).toBe(true)
    expect([made.group.count, made.member.count, made.group.moves!.size]).toEqual([1, 0, 0])
    expect(made.group.find(11)).toBe(true)
    expect(made.group.flags).toBe(FROM | 0)
    expect(Object.fromEntries(made.claimed)).toEqual(before)
  })

  it('settle what was moved at both ends', () => {
    const made = world()
    made.replay(KIND.sharedMove, write.move)
    const pairs = Buffer.alloc(32)
    const end = writePair(pairs, writePair(pairs, 0, 9, 21), 4, 11)
    expect(made.apply(KIND.settle, pairs.subarray(0, end))).toBe(true)
    expect([made.group.count, made.member.count]).toEqual([0, 0])
    expect([made.group.moves!.size, made.member.moves!.size]).toEqual([0, 0])
  })

  it('move what either queue does not know yet', () => {
    const early = new World()
    expect(early.replay(KIND.sharedMove, write.move)).toBe(false)
    early.replay(KIND.sharedGroup, write.group)
    // The session stands behind it in the checkpoint, with its own entries.
    expect(early.replay(KIND.sharedMove, write.move)).toBe(true)
    expect(early.group.moves!.size).toBe(1)
    const late = new World()
    late.replay(KIND.session, write.session)
    expect(late.replay(KIND.sharedMove, write.move)).toBe(true)
    expect(late.member.count).toBe(1)
    late.replay(KIND.sharedGroup, write.group)
    late.state.insertEntry(late.group, 11, 5, 77, 123, FROM)
    expect(late.replay(KIND.sharedMove, write.move)).toBe(true)
    expect([late.group.count, late.member.count]).toEqual([0, 1])
    expect(late.group.next()).toBe(NOTHING)
  })

  it('take members and groups away', () => {
    const made = world()
    expect(made.replay(KIND.unsubscribe, write.leave)).toBe(true)
    expect(made.state.groups.get(4)!.members.size).toBe(0)
    expect(made.state.sessions.get(9)!.shared).toBeNull()
    expect(made.replay(KIND.sharedGroupEnd, write.end)).toBe(true)
    expect(made.state.groups.size + made.state.vhost('/')!.groups.size).toBe(0)
    expect(made.state.queues.has(4)).toBe(false)
    expect(made.claimed.get(5)).toBe(0)
  })

  it('never throw when they are cut short', () => {
    const kinds = [
      [KIND.sharedGroup, write.group],
      [KIND.sharedMember, write.member],
      [KIND.sharedMove, write.move],
      [KIND.sharedMoveBack, write.move],
      [KIND.sharedGroupEnd, write.end]
    ] as const
    for (const [kind, writing] of kinds) {
      const bytes = recordOf(writing)
      for (let length = 0; length < bytes.length; length++) {
        const made = world()
        expect(() => made.apply(kind, bytes.subarray(0, length))).not.toThrow()
      }
    }
  })
})
