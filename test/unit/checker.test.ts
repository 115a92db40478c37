/** The checker itself: valid histories pass, and each way to break one is found by the rule that is about it. */
import { describe, expect, it } from 'vitest'
import { checkHistory, type Rule } from '../support/checker.ts'
import { type HistoryEvent, messageId, type NewEvent } from '../support/history.ts'

const MS = 1e6

/** Events with a clock that goes on by a millisecond each. */
class Script {
  readonly events: HistoryEvent[] = []
  now = 0

  add(event: NewEvent): this {
    this.now += MS
    this.events.push({ t: this.now, ...event })
    return this
  }

  wait(ms: number): this {
    this.now += ms * MS
    return this
  }

  claim(proc: string, flow: string, qos: 0 | 1 | 2 | 'queue'): this {
    this.add({ f: 'sub', type: 'invoke', proc, flow, qos })
    return this.add({ f: 'sub', type: 'ok', proc, flow, qos })
  }

  send(flow: string, seq: number, qos: 0 | 1 | 2): this {
    return this.add({
      f: 'pub',
      type: 'invoke',
      proc: 'p',
      flow,
      seq,
      id: messageId(flow, seq),
      qos
    })
  }

  acked(flow: string, seq: number, type: 'ok' | 'fail' = 'ok'): this {
    return this.add({ f: 'pub', type, proc: 'p', flow, seq, id: messageId(flow, seq) })
  }

  publish(flow: string, seq: number, qos: 0 | 1 | 2): this {
    this.send(flow, seq, qos)
    return qos === 0 ? this : this.acked(flow, seq)
  }

  receive(proc: string, flow: string, seq: number, more: Partial<NewEvent> = {}): this {
    const id = messageId(flow, seq)
    return this.add({ f: 'recv', type: 'ok', proc, flow, seq, id, dup: false, ...more })
  }

  consumed(proc: string, flow: string, seq: number): this {
    return this.add({ f: 'cons-ack', type: 'ok', proc, flow, seq, id: messageId(flow, seq) })
  }

  crash(how: 'kill' | 'power' = 'kill'): this {
    this.add({ f: 'crash', type: 'info', proc: 'broker', how })
    return this.add({ f: 'start', type: 'ok', proc: 'broker' })
  }

  set(value: string, type: 'invoke' | 'ok' = 'invoke'): this {
    return this.add({ f: 'set', type, proc: 'p', flow: 'r/t', id: value })
  }

  get(value: string, proc = 'reader'): this {
    this.add({ f: 'get', type: 'invoke', proc, flow: 'r/t' })
    return this.add({ f: 'get', type: 'ok', proc, flow: 'r/t', id: value })
  }

  rules(options = {}): Rule[] {
    return [...new Set(checkHistory(this.events, options).violations.map(found => found.rule))]
  }
}

/** Three messages at each guarantee, all received once and in order. */
function quiet(): Script {
  const script = new Script()
  for (const qos of [0, 1, 2] as const) script.claim('s', `f${qos}`, qos)
  script.claim('q', 'f1', 'queue')
  for (const seq of [1, 2, 3]) {
    for (const qos of [0, 1, 2] as const) script.publish(`f${qos}`, seq, qos)
    for (const qos of [0, 1, 2] as const) script.receive('s', `f${qos}`, seq)
    script.receive('q', 'f1', seq).consumed('q', 'f1', seq)
  }
  return script
}

function without(script: Script, drop: (event: HistoryEvent) => boolean): Script {
  const index = script.events.findIndex(drop)
  expect(index).toBeGreaterThanOrEqual(0)
  script.events.splice(index, 1)
  return script
}

/** The same, and a kill some time later, of which the broker did not answer for 100 ms. */
function stalled(ms: number): Script {
  const pause = { f: 'pause', type: 'info', proc: 'broker', value: 100 } as const
  return quiet().wait(ms).add(pause).crash()
}

describe('a broken history is found', () => {
  const received = (proc: string, id: string) => (event: HistoryEvent) =>
    event.f === 'recv' && event.proc === proc && event.id === id

  const broken: [string, Rule, () => Script][] = [
    [
      'a QoS 1 message that was acknowledged never arrives',
      'lost',
      () => without(quiet(), received('s', 'f1#2'))
    ],
    [
      'a QoS 2 message that was acknowledged never arrives',
      'lost',
      () => without(quiet(), received('s', 'f2#3'))
    ],
    [
      'a confirmed message never leaves its queue',
      'lost',
      () => without(quiet(), received('q', 'f1#1'))
    ],
    ['a QoS 2 message arrives twice', 'duplicate', () => quiet().receive('s', 'f2', 3)],
    [
      'a QoS 2 message arrives twice over a crash',
      'duplicate',
      () => quiet().crash().receive('s', 'f2', 3, { dup: true })
    ],
    ['a QoS 0 message arrives twice', 'duplicate', () => quiet().receive('s', 'f0', 3)],
    [
      'a QoS 2 message without an answer arrives twice although its publisher tried the same id again',
      'duplicate',
      () =>
        quiet()
          .send('f2', 4, 2)
          .receive('s', 'f2', 4)
          .crash()
          .send('f2', 4, 2)
          .receive('s', 'f2', 4)
    ],
    [
      'a QoS 2 message reaches a QoS 1 subscriber twice without DUP, and nothing crashed',
      'unmarked',
      () =>
        quiet()
          .claim('one', 'f2', 1)
          .send('f2', 4, 2)
          .receive('one', 'f2', 4)
          .send('f2', 4, 2)
          .acked('f2', 4)
          .receive('one', 'f2', 4)
          .receive('s', 'f2', 4)
    ],
    ['a QoS 1 message is repeated without DUP', 'unmarked', () => quiet().receive('s', 'f1', 3)],
    [
      'a queue repeats a message without redelivered',
      'unmarked',
      () => quiet().receive('q', 'f1', 3)
    ],
    [
      'two first transmissions change places',
      'order',
      () =>
        quiet()
          .publish('f1', 4, 1)
          .publish('f1', 5, 1)
          .receive('s', 'f1', 5)
          .receive('s', 'f1', 4)
          .receive('q', 'f1', 4)
          .receive('q', 'f1', 5)
    ],
    [
      'a queue gives a channel its messages out of order',
      'order',
      () =>
        quiet()
          .publish('f1', 4, 1)
          .publish('f1', 5, 1)
          .receive('q', 'f1', 5)
          .receive('q', 'f1', 4)
          .receive('s', 'f1', 4)
          .receive('s', 'f1', 5)
    ],
    [
      'an acknowledged message comes again without a crash',
      'acked-again',
      () => quiet().receive('q', 'f1', 3, { dup: true })
    ],
    [
      'an acknowledged message comes again after a kill that came long after',
      'acked-again',
      () => quiet().wait(60).crash().receive('q', 'f1', 3, { dup: true })
    ],
    [
      'an acknowledged message comes again after a kill, the pause of the broker aside long after',
      'acked-again',
      () => stalled(160).receive('q', 'f1', 3, { dup: true })
    ],
    [
      'an acknowledged message comes again after a power cut that came more than a second after',
      'acked-again',
      () => quiet().wait(1100).crash('power').receive('q', 'f1', 3, { dup: true })
    ],
    ['a message arrives that nobody sent', 'phantom', () => quiet().receive('s', 'f1', 9)],
    [
      'a message arrives whose publisher was refused',
      'phantom',
      () => quiet().send('f1', 4, 1).acked('f1', 4, 'fail').receive('s', 'f1', 4)
    ],
    [
      'a message arrives before it is sent',
      'phantom',
      () => quiet().receive('s', 'f0', 4).publish('f0', 4, 0)
    ],
    [
      'the bytes changed on the way',
      'corrupt',
      () => quiet().publish('f0', 4, 0).receive('s', 'f0', 4, { intact: false })
    ],
    [
      'a client gets what it may not read',
      'unauthorised',
      () =>
        quiet()
          .claim('x', 'f1', 1)
          .add({ f: 'forbid', type: 'ok', proc: 'x', flow: 'f1' })
          .publish('f1', 4, 1)
          .receive('s', 'f1', 4)
          .receive('q', 'f1', 4)
          .receive('x', 'f1', 4)
    ],
    ['a client gets what it never asked for', 'unsubscribed', () => quiet().receive('x', 'f1', 3)],
    [
      'a subscription is gone after a crash',
      'subscription-lost',
      () => quiet().crash().publish('f2', 4, 2).publish('f2', 5, 2)
    ],
    [
      'a session is gone after a crash',
      'session',
      () =>
        quiet()
          .add({ f: 'conn', type: 'ok', proc: 's', present: false, lasting: true })
          .crash()
          .add({ f: 'conn', type: 'ok', proc: 's', present: false, lasting: true })
    ],
    [
      'a clean start is told that a session is present',
      'session',
      () => quiet().add({ f: 'conn', type: 'ok', proc: 's', present: true, clean: true })
    ],
    [
      'a retained value is older than the last acknowledged one',
      'stale-retained',
      () => new Script().set('a').set('a', 'ok').set('b').set('b', 'ok').get('a')
    ],
    [
      'a deleted retained value comes back',
      'stale-retained',
      () => new Script().set('a').set('a', 'ok').set('').set('', 'ok').get('a')
    ],
    [
      'an acknowledged retained value is gone',
      'stale-retained',
      () => new Script().set('a').set('a', 'ok').get('')
    ],
    [
      'an older retained value follows a newer one',
      'retained-backwards',
      () => new Script().set('a').set('a', 'ok').set('b').get('b').get('a')
    ],
    [
      'a retained value comes from nowhere',
      'phantom-retained',
      () => new Script().set('a').set('a', 'ok').get('z')
    ],
    [
      'the counters do not explain what is missing',
      'count',
      () =>
        without(quiet(), received('s', 'f0#2')).add({
          f: 'count',
          type: 'info',
          proc: 's',
          value: 0
        })
    ],
    [
      'the counters claim a drop that was none',
      'count',
      () => quiet().add({ f: 'count', type: 'info', proc: 's', value: 1 })
    ],
    [
      'a will comes too late',
      'late',
      () => {
        const script = quiet().claim('s', 'w', 1)
        script.add({
          f: 'pub',
          type: 'invoke',
          proc: 'w',
          flow: 'w',
          seq: 1,
          due: script.now + 1000 * MS
        })
        return script.wait(1500).receive('s', 'w', 1)
      }
    ]
  ]

  it.each(broken)('%s', (_name, rule, build) => {
    expect(build().rules()).toEqual([rule])
  })
})

describe('a valid history passes', () => {
  const valid: [string, () => Script][] = [
    ['everything arrives once and in order', quiet],
    [
      'a QoS 0 message is missing and nobody counted',
      () => without(quiet(), event => event.f === 'recv' && event.id === 'f0#2')
    ],
    [
      'a QoS 0 message is missing and was counted',
      () =>
        without(quiet(), event => event.f === 'recv' && event.id === 'f0#2').add({
          f: 'count',
          type: 'info',
          proc: 's',
          value: 1
        })
    ],
    [
      'a limit dropped a message and counted it',
      () =>
        without(
          quiet(),
          event => event.f === 'recv' && event.proc === 's' && event.id === 'f1#1'
        ).add({ f: 'count', type: 'info', proc: 's', value: 1 })
    ],
    [
      'a message still waits and is said to',
      () =>
        without(
          quiet(),
          event => event.f === 'recv' && event.proc === 'q' && event.id === 'f1#3'
        ).add({ f: 'waiting', type: 'info', proc: 'q', value: 1 })
    ],
    [
      'an unanswered publish never arrives',
      () => quiet().send('f1', 4, 1).send('f2', 4, 2).crash()
    ],
    ['an unanswered publish arrives', () => quiet().send('f2', 4, 2).crash().receive('s', 'f2', 4)],
    [
      'a QoS 1 message is repeated by its publisher and arrives twice without DUP',
      () =>
        quiet()
          .send('f1', 4, 1)
          .receive('s', 'f1', 4)
          .receive('q', 'f1', 4)
          .crash()
          .send('f1', 4, 1)
          .acked('f1', 4)
          .receive('s', 'f1', 4)
          .receive('q', 'f1', 4)
    ],
    [
      'a crash undoes a QoS 2 message that a QoS 1 subscriber has, and its publisher sends it again',
      () =>
        quiet()
          .claim('one', 'f2', 1)
          .send('f2', 4, 2)
          .receive('one', 'f2', 4)
          .crash()
          .send('f2', 4, 2)
          .acked('f2', 4)
          .receive('one', 'f2', 4)
          .receive('s', 'f2', 4)
    ],
    [
      'a QoS 1 message is delivered again with DUP',
      () =>
        quiet().crash().receive('s', 'f1', 2, { dup: true }).receive('s', 'f1', 3, { dup: true })
    ],
    [
      'a kill forgets an acknowledgement of the last 50 ms',
      () => quiet().wait(40).crash().receive('q', 'f1', 3, { dup: true })
    ],
    [
      'a kill forgets an acknowledgement of the last 50 ms in which the broker ran',
      () => stalled(140).receive('q', 'f1', 3, { dup: true })
    ],
    [
      'a power cut forgets an acknowledgement of the last second',
      () => quiet().wait(900).crash('power').receive('q', 'f1', 3, { dup: true })
    ],
    [
      'an acknowledgement went to a broker that was dead already',
      () =>
        quiet()
          .publish('f1', 4, 1)
          .receive('s', 'f1', 4)
          .receive('q', 'f1', 4)
          .wait(100)
          .add({ f: 'crash', type: 'info', proc: 'broker', how: 'kill' })
          .consumed('q', 'f1', 4)
          .add({ f: 'start', type: 'ok', proc: 'broker' })
          .receive('q', 'f1', 4, { dup: true })
    ],
    [
      'an unacknowledged message of a queue comes again after a crash without its mark',
      () =>
        quiet()
          .publish('f1', 4, 1)
          .receive('s', 'f1', 4)
          .receive('q', 'f1', 4)
          .crash()
          .receive('q', 'f1', 4)
    ],
    [
      'two consumers of a queue share a flow',
      () =>
        quiet()
          .publish('f1', 4, 1)
          .publish('f1', 5, 1)
          .receive('s', 'f1', 4)
          .receive('s', 'f1', 5)
          .receive('q', 'f1', 5, { lane: 'c2' })
          .crash()
          .receive('q', 'f1', 4, { lane: 'c2', dup: true })
    ],
    [
      'a message published before the subscription or after its end is not owed',
      () =>
        quiet()
          .publish('f3', 1, 1)
          .claim('s', 'f3', 1)
          .add({ f: 'unsub', type: 'invoke', proc: 's', flow: 'f3' })
          .publish('f3', 2, 1)
    ],
    [
      'an unanswered retained write shows and may be read before or after',
      () => new Script().set('a').set('a', 'ok').set('b').get('a').get('b').get('b')
    ],
    [
      'a retained value is read while it is replaced',
      () =>
        new Script()
          .set('a')
          .set('a', 'ok')
          .add({ f: 'get', type: 'invoke', proc: 'reader', flow: 'r/t' })
          .set('b')
          .set('b', 'ok')
          .add({ f: 'get', type: 'ok', proc: 'reader', flow: 'r/t', id: 'a' })
    ],
    [
      'a retained value is deleted, and none is there',
      () => new Script().get('').set('a').set('a', 'ok').set('').set('', 'ok').get('')
    ],
    [
      'a session lasts, ends with a clean start, and begins anew',
      () =>
        new Script()
          .add({ f: 'conn', type: 'ok', proc: 's', present: false, lasting: true })
          .add({ f: 'conn', type: 'ok', proc: 's', present: true, lasting: true })
          .crash()
          .add({ f: 'conn', type: 'ok', proc: 's', present: false, clean: true })
          .add({ f: 'conn', type: 'ok', proc: 's', present: false, lasting: true })
    ]
  ]

  it.each(valid)('%s', (_name, build) => {
    expect(build().rules()).toEqual([])
  })

  it('its unknown results and recoveries are told', () => {
    const script = quiet().send('f2', 4, 2).send('f2', 5, 2).crash().receive('s', 'f2', 4)
    expect(checkHistory(script.events).stats).toMatchObject({
      sent: 11,
      acked: 6,
      unknown: 5,
      recovered: 4
    })
  })
})

describe('the checker', () => {
  it('sorts a history that was put together from several files', () => {
    const { events } = quiet()
    expect(checkHistory(events.toReversed()).violations).toEqual([])
  })

  it('judges 200,000 events without a search through all of them for each', () => {
    const script = new Script().claim('s', 'f', 2)
    for (let seq = 0; seq < 65_000; seq++) script.publish('f', seq, 2).receive('s', 'f', seq)
    expect(checkHistory(script.events).stats.received).toBe(65_000)
  })
})
