/** The loop of a bridge: what it promises when links are lost, hang, refuse, and when the broker ends. */
import { describe, expect, it } from 'vitest'
import { BridgeRig, FarSide, SETTINGS } from '../support/bridge-rig.ts'
import { turns } from '../support/broker-rig.ts'

const idOf = ({ id }: { id: { origin: string; epoch: number; sequence: number } }) =>
  `${id.origin}/${id.epoch}/${id.sequence}`

describe('a bridge', () => {
  it('settles a message when the far side has confirmed it, and not before', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', '2')
    expect(opened.far.texts).toEqual(['1', '2'])
    expect(opened.queue.count).toBe(2)
    opened.far.link.confirm(1)
    expect(opened.queue.count).toBe(1)
    opened.far.link.confirm()
    expect(opened.queue.count).toBe(0)
    expect(opened.status).toMatchObject({ state: 'running', sentTotal: 2, confirmedTotal: 2 })
  })

  it('sends everything unconfirmed again after a lost link, in order and with the same identifiers', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', '2', '3', '4')
    opened.far.link.confirm(1)
    const before = opened.far.got.map(idOf)
    opened.far.link.lose()
    await opened.publish('5')
    expect(opened.status.state).toBe('backing-off')
    await opened.pass(500)
    expect(opened.far.links).toHaveLength(2)
    expect(opened.far.texts.slice(4)).toEqual(['2', '3', '4', '5'])
    expect(opened.far.got.slice(4, 7).map(idOf)).toEqual(before.slice(1))
    expect(new Set(opened.far.got.map(idOf)).size).toBe(5)
    opened.far.link.confirm()
    expect(opened.queue.count).toBe(0)
  })

  it('keeps no more on its way than its window', async () => {
    const opened = await BridgeRig.open({ window: 2 })
    await opened.publish('1', '2', '3', '4', '5')
    expect(opened.far.texts).toEqual(['1', '2'])
    opened.far.link.confirm(1)
    await turns()
    expect(opened.far.texts).toEqual(['1', '2', '3'])
  })

  it('sends nothing that is not yet on the disk', async () => {
    const opened = await BridgeRig.open()
    await opened.rig.flush()
    opened.publishTo('a/b', 'new')
    expect(opened.rig.journal.ticket).toBeGreaterThan(opened.rig.journal.durableTicket)
    expect(opened.far.texts).toEqual([])
    await opened.rig.flush()
    await turns()
    expect(opened.far.texts).toEqual(['new'])
  })

  it('gives no identifier twice when the power goes before the disk has the message', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1')
    opened.far.link.confirm()
    opened.publishTo('a/b', 'never durable')
    const rig = await opened.rig.crash()
    const again = new BridgeRig(rig, new FarSide(), [SETTINGS])
    await again.pass(0)
    await again.publish('2')
    const ids = [...opened.far.got, ...again.far.got]
    const byId = new Map(ids.map(outgoing => [idOf(outgoing), outgoing.payload.toString()]))
    for (const outgoing of ids) expect(byId.get(idOf(outgoing))).toBe(outgoing.payload.toString())
  })

  it('sends with the same identifiers after a crash what was not confirmed', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', '2', '3')
    opened.far.link.confirm(1)
    await opened.rig.flush()
    const ids = opened.far.got.map(idOf)
    const rig = await opened.rig.crash()
    const again = new BridgeRig(rig, new FarSide(), [SETTINGS])
    await again.pass(0)
    expect(again.far.texts.slice(-2)).toEqual(['2', '3'])
    expect(again.far.got.slice(-2).map(idOf)).toEqual(ids.slice(1))
  })

  it('carries properties, identifier and the headers of its rule', async () => {
    const map = [{ filter: 'a/+', exchange: 'telemetry', key: 'x.{1}', headers: { site: '{1}' } }]
    const opened = await BridgeRig.open({ map })
    await opened.publish('1')
    const { target, properties, id } = opened.far.got[0]!
    expect(target).toMatchObject({ exchange: 'telemetry', key: 'x.b' })
    expect(properties.deliveryMode).toBe(2)
    expect(properties.messageId).toBe(`0123456789abcdef-${id.epoch}-${id.sequence}`)
    expect(properties.headers).toEqual([
      ['site', { type: 'S', value: 'b' }],
      ['x-motemq-origin', { type: 'S', value: '0123456789abcdef' }],
      ['x-motemq-epoch', { type: 'l', value: BigInt(id.epoch) }],
      ['x-motemq-sequence', { type: 'l', value: BigInt(id.sequence) }]
    ])
  })
})

describe('the watchdog of a bridge', () => {
  it('opens a link anew that confirms nothing for its time, and says so once', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', '2')
    await opened.pass(29_900)
    expect(opened.status.state).toBe('running')
    await opened.pass(100)
    expect(opened.status.state).toBe('stalled')
    expect(opened.far.links[0]!.isClosed).toBe(true)
    await opened.pass(500)
    expect(opened.far.links).toHaveLength(2)
    expect(opened.status.state).toBe('stalled')
    await opened.pass(30_000)
    await opened.pass(2_000)
    expect(opened.far.links).toHaveLength(3)
    opened.far.link.confirm()
    expect(opened.status.state).toBe('running')
    expect(opened.queue.count).toBe(0)
    const lines = opened.rig.lines.filter(({ state }) => state === 'stalled')
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatchObject({ level: 50, bridge: 'cloud' })
  })

  it('counts from the last confirmation, when they stop midway', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', '2')
    await opened.pass(20_000)
    opened.far.link.confirm(1)
    await opened.pass(20_000)
    expect(opened.status.state).toBe('running')
    await opened.pass(10_000)
    expect(opened.status.state).toBe('running')
    await opened.pass(20_000)
    expect(opened.status.state).toBe('stalled')
  })

  it('waits for a large message as long as its line takes bytes', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('large')
    for (let i = 0; i < 10; i++) {
      opened.far.link.sentBytes += 1_000
      await opened.pass(20_000)
    }
    expect(opened.status.state).toBe('running')
    await opened.pass(30_000)
    expect(opened.status.state).toBe('stalled')
  })

  it('gives up a link that never opens, whatever its library does', async () => {
    const opened = await BridgeRig.open()
    opened.far.link.lose()
    opened.far.opens = 'never'
    await opened.pass(500)
    opened.far.link.holdup = 'TLS handshake'
    await opened.pass(30_000)
    expect(opened.status).toMatchObject({ state: 'stalled' })
    expect(opened.status.lastError).toContain('TLS handshake')
    expect(opened.far.link.isClosed).toBe(true)
    opened.far.opens = 'yes'
    await opened.pass(8_000)
    expect(opened.status.state).toBe('running')
  })

  it('gives up a link that takes nothing while something waits', async () => {
    const opened = await BridgeRig.open()
    opened.far.link.isWritable = false
    await opened.publish('1')
    await opened.pass(0)
    await opened.pass(30_000)
    expect(opened.status.state).toBe('stalled')
    await opened.pass(500)
    expect(opened.far.texts).toEqual(['1'])
  })

  it('leaves a link alone on which nothing waits', async () => {
    const opened = await BridgeRig.open()
    await opened.pass(600_000)
    await opened.pass(600_000)
    expect(opened.status.state).toBe('running')
    expect(opened.far.links).toHaveLength(1)
  })
})

describe('what a far side refuses', () => {
  it('is sent again in order when all else is settled, and in the end is a dead letter', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', '2', '3')
    opened.far.link.refuse('refused')
    await opened.publish('4')
    expect(opened.far.texts).toEqual(['1', '2', '3'])
    opened.far.link.confirm()
    await opened.pass(0)
    await opened.pass(500)
    expect(opened.far.texts.slice(3)).toEqual(['1', '4'])
    opened.far.link.refuse('refused')
    opened.far.link.confirm()
    await opened.pass(0)
    await opened.pass(1_000)
    expect(opened.far.texts.slice(5)).toEqual(['1'])
    opened.far.link.refuse('refused')
    await opened.pass(0)
    await opened.pass(0)
    await opened.rig.flush()
    expect(opened.queue.count).toBe(0)
    expect(opened.rig.queue('bridge.cloud.dead').count).toBe(1)
    expect(opened.status).toMatchObject({ refusedTotal: 3, deadLetteredTotal: 1 })
    await opened.publish('5')
    expect(opened.far.texts.at(-1)).toBe('5')
  })

  it('is a dead letter at once when it is never to be taken', async () => {
    const opened = await BridgeRig.open()
    opened.far.refuses = ({ payload }) =>
      payload.toString() === 'bad' ? { kind: 'permanent', reason: 'too large' } : null
    await opened.publish('1', 'bad', '2')
    opened.far.link.confirm()
    await opened.pass(0)
    await opened.pass(0)
    opened.far.link.confirm()
    await opened.rig.flush()
    expect(opened.far.texts).toEqual(['1', '2'])
    expect(opened.queue.count).toBe(0)
    expect(opened.rig.queue('bridge.cloud.dead').count).toBe(1)
  })

  it('is no message’s fault while the far side takes nothing', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', '2')
    for (let i = 0; i < 10; i++) {
      opened.far.link.refuse('busy', 2)
      await opened.pass(0)
      await opened.pass(8_000)
    }
    expect(opened.status.deadLetteredTotal).toBe(0)
    opened.far.link.confirm()
    expect(opened.queue.count).toBe(0)
  })

  it('is found one by one when the far side closes the link and does not say which one it was', async () => {
    const opened = await BridgeRig.open()
    await opened.publish('1', 'bad', '3')
    opened.far.link.lose(true)
    for (let i = 0; i < 30 && opened.status.deadLetteredTotal === 0; i++) {
      await opened.pass(8_000)
      const { sent } = opened.far.link
      if (sent.length === 0) continue
      expect(sent).toHaveLength(1)
      if (sent[0]!.payload.toString() === 'bad') opened.far.link.lose(true)
      else opened.far.link.confirm()
    }
    await opened.pass(8_000)
    opened.far.link.confirm()
    expect(opened.queue.count).toBe(0)
    expect(opened.status).toMatchObject({ confirmedTotal: 2, deadLetteredTotal: 1 })
  })
})

describe('orders and configuration', () => {
  it('pauses, goes on, begins anew and purges', async () => {
    const opened = await BridgeRig.open()
    opened.bridges.order('cloud', 'pause')
    await opened.publish('1', '2')
    await opened.pass(60_000)
    expect(opened.status).toMatchObject({ state: 'paused', messages: 2 })
    expect(opened.far.texts).toEqual([])
    expect(opened.bridges.order('cloud', 'purge')).toEqual({ purged: 2 })
    await opened.publish('3')
    opened.bridges.order('cloud', 'resume')
    await opened.pass(0)
    expect(opened.far.texts).toEqual(['3'])
    opened.bridges.order('cloud', 'restart')
    await opened.pass(0)
    expect(opened.far.texts).toEqual(['3', '3'])
    expect(opened.bridges.order('nobody', 'pause')).toBeNull()
  })

  it('says that an operator must act, and tries again all the same', async () => {
    const opened = await BridgeRig.open()
    opened.far.opens = 'config'
    opened.far.link.lose()
    await opened.pass(500)
    expect(opened.status).toMatchObject({ state: 'failed-config', lastError: 'refused' })
    opened.far.opens = 'yes'
    await opened.pass(64_000)
    expect(opened.status.state).toBe('running')
  })

  it('leaves the bridges alone that are the same in a new configuration', async () => {
    const other = { ...SETTINGS, name: 'other', topics: ['b/#'] }
    const opened = await BridgeRig.open()
    opened.bridges.configure([SETTINGS, other])
    await opened.pass(0)
    expect(opened.far.links).toHaveLength(2)
    opened.bridges.configure([{ ...SETTINGS }, { ...other, topics: ['c/#'] }])
    await opened.pass(0)
    expect(opened.far.links).toHaveLength(3)
    expect(opened.far.links[0]!.isClosed).toBe(false)
    await opened.rig.flush()
    opened.publishTo('b/x', 'old binding')
    opened.publishTo('c/x', 'new binding')
    await opened.rig.flush()
    await turns()
    expect(opened.far.texts).toEqual(['new binding'])
    opened.bridges.configure([SETTINGS])
    opened.publishTo('c/x', 'nobody')
    expect(opened.rig.queue('bridge.other').readyCount).toBe(1)
  })

  it('bounds what waits, and counts what it gave up', async () => {
    const limits = { ...SETTINGS.limits, messages: 2 }
    const opened = await BridgeRig.open({ limits })
    opened.far.opens = 'no'
    opened.far.link.lose()
    await opened.publish('1', '2', '3')
    await opened.pass(100)
    expect(opened.status).toMatchObject({ messages: 2, droppedTotal: { queue_full: 1 } })
  })

  it('refuses the publish of a device when it is told to', async () => {
    const limits = { ...SETTINGS.limits, messages: 1, overflow: 'refuse' as const }
    const opened = await BridgeRig.open({ limits })
    opened.far.opens = 'no'
    opened.far.link.lose()
    expect(opened.publishTo('a/b', '1')).toBeGreaterThan(0)
    expect(opened.publishTo('a/b', '2')).toBeLessThan(0)
  })

  it('knows how long the oldest waits, and how fast it goes', async () => {
    const opened = await BridgeRig.open({ window: 1 })
    await opened.publish('1', '2')
    for (let i = 0; i < 5; i++) await opened.pass(1_000)
    expect(opened.status.oldestSeconds).toBe(4)
    opened.far.link.confirm()
    for (let i = 0; i < 5; i++) await opened.pass(1_000)
    expect(opened.status.outPerSecond).toBeGreaterThan(0)
  })
})
