import { expect, it } from 'vitest'
import { WillRoom } from '../../src/broker/will-room.ts'
import type { Session } from '../../src/core/session.ts'
import { State } from '../../src/core/state.ts'
import { willOf } from '../support/broker-rig.ts'

const ROOM = 10_000
const will = () => willOf({ topic: '', payload: Buffer.alloc(1_000) })

/** Sessions as far as the room looks at them. */
function sessionsOf(state: State, count: number): Pick<Session, 'will'>[] {
  const sessions = Array.from({ length: count }, () => ({ will: null }) as Pick<Session, 'will'>)
  for (const [id, session] of sessions.entries()) state.sessions.set(id, session as Session)
  return sessions
}

it('a client that comes again and again with a will takes no room from others', () => {
  const state = new State({ claim: () => undefined, release: () => undefined })
  const room = new WillRoom()
  const [one, two] = sessionsOf(state, 2)
  for (let i = 0; i < 100; i++) {
    const again = will()
    expect(room.take(state, again, ROOM, 5_000), `${i}`).toBe(true)
    one!.will = again
  }
  expect(room.take(state, will(), ROOM, 5_000)).toBe(true)
  two!.will = will()
})

it('wills that are there fill the room, and are counted again after a second', () => {
  const state = new State({ claim: () => undefined, release: () => undefined })
  const room = new WillRoom()
  const sessions = sessionsOf(state, 11)
  const taken = sessions.map(session => {
    const isTaken = room.take(state, will(), ROOM, 5_000)
    if (isTaken) session.will = will()
    return isTaken
  })
  expect(taken).toEqual([...Array.from({ length: 10 }, () => true), false])
  sessions[0]!.will = null
  expect(room.take(state, will(), ROOM, 6_001)).toBe(true)
})
