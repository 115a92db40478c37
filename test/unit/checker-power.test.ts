/** What a power cut may undo, and what not: the checker's rules that only a crash brings into play. */
import { describe, expect, it } from 'vitest'
import { checkHistory } from '../support/checker.ts'
import type { NewEvent } from '../support/history.ts'

function rulesOf(events: readonly NewEvent[]): string[] {
  const timed = events.map((event, index) => ({ t: (index + 1) * 1e6, ...event }))
  return [...new Set(checkHistory(timed).violations.map(({ rule }) => rule))]
}

const set = (id: string, type: 'invoke' | 'ok' = 'invoke'): NewEvent => {
  return { f: 'set', type, proc: 'p', flow: 'r/t', id }
}
const get = (id: string): NewEvent[] => [
  { f: 'get', type: 'invoke', proc: 'reader', flow: 'r/t' },
  { f: 'get', type: 'ok', proc: 'reader', flow: 'r/t', id }
]
const crash: NewEvent[] = [
  { f: 'crash', type: 'info', proc: 'broker', how: 'power' },
  { f: 'start', type: 'ok', proc: 'broker' }
]
const subscribe: NewEvent[] = (['invoke', 'ok'] as const).map(type => {
  return { f: 'sub', type, proc: 's', flow: 'f', qos: 1 }
})
const unsubscribe: NewEvent = { f: 'unsub', type: 'invoke', proc: 's', flow: 'f' }
const publish = (type: 'invoke' | 'ok'): NewEvent => {
  return { f: 'pub', type, proc: 'p', flow: 'f', seq: 1, id: 'f#1', qos: 1 }
}

describe('a power cut', () => {
  it('may not undo a retained value that was read and acknowledged', () => {
    const before = [set('a'), set('a', 'ok'), set('b'), ...get('b'), set('b', 'ok')]
    expect(rulesOf([...before, ...crash, ...get('a')])).toContain('stale-retained')
    expect(rulesOf([set('a'), set('a', 'ok'), set('b'), ...get('b'), ...get('a')])).toEqual([
      'retained-backwards'
    ])
  })

  it('leaves open whether a repeated message reaches a subscription that was being ended', () => {
    const sent = [...subscribe, publish('invoke'), unsubscribe]
    expect(rulesOf([...sent, ...crash, publish('invoke'), publish('ok')])).toEqual([])
    expect(rulesOf([...subscribe, publish('invoke'), publish('ok'), unsubscribe])).toEqual(['lost'])
  })

  it('is no excuse for a message that was sent and taken after an UNSUBACK', () => {
    const ended: NewEvent[] = [...subscribe, unsubscribe, { ...unsubscribe, type: 'ok' }]
    const came: NewEvent = { f: 'recv', type: 'ok', proc: 's', flow: 'f', seq: 1, id: 'f#1' }
    const sent = [publish('invoke'), publish('ok')]
    expect(rulesOf([...ended, ...sent, ...crash, ...subscribe, came])).toEqual(['unsubscribed'])
    const late = [publish('invoke'), ...crash, ...subscribe, publish('ok'), came]
    expect(rulesOf([...ended, ...late])).toEqual([])
  })
})
