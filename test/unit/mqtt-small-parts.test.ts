import { describe, expect, it } from 'vitest'
import { InboundIds } from '../../src/core/inbound-ids.ts'
import { packetLimitsOf } from '../../src/config/packet-limits.ts'
import { OutgoingAliases } from '../../src/mqtt/outgoing-aliases.ts'
import { DEFAULT_MQTT_OPTIONS, packetBytesMaxOf } from '../../src/mqtt/options.ts'

describe('inbound packet identifiers', () => {
  it('are known with their tickets until they are released', () => {
    const ids = new InboundIds()
    ids.set(1, 10)
    ids.set(65_535, 11)
    expect([ids.get(1), ids.get(65_535), ids.get(2), ids.size]).toEqual([10, 11, undefined, 2])
    expect([ids.delete(1), ids.delete(1), ids.size]).toEqual([true, false, 1])
    expect([...ids.keys()]).toEqual([65_535])
  })

  it('may be all 65,535 at once, and none again', () => {
    const ids = new InboundIds()
    for (let round = 0; round < 2; round++) {
      for (let id = 1; id <= 65_535; id++) ids.set(id, id)
      ids.set(7, 3)
      expect(ids.size).toBe(65_535)
      // Whoever repeats waits for the newest, which is no later than its own time.
      expect(ids.get(1)).toBe(65_535)
      expect([...ids.keys()].length).toBe(65_535)
      for (let id = 65_535; id > 0; id--) expect(ids.delete(id)).toBe(true)
      expect([ids.size, ids.delete(9), ids.has(9), [...ids.keys()].length]).toEqual([
        0,
        false,
        false,
        0
      ])
      ids.set(5, 6)
      expect([ids.get(5), ids.size]).toEqual([6, 1])
      ids.delete(5)
    }
  })

  it('take 8 KiB when they are many', () => {
    const ids = new InboundIds()
    for (let id = 1; id <= 65_535; id++) ids.set(id, id)
    expect((ids['bits'] as Uint32Array).byteLength).toBe(8_192)
    expect(ids['few'].size).toBe(0)
  })
})

describe('packet limits', () => {
  const of = (texts: string[], clientId: string, localPort = 1883) => {
    const packetLimits = packetLimitsOf(texts)
    return packetBytesMaxOf({ ...DEFAULT_MQTT_OPTIONS, packetLimits }, clientId, { localPort })
  }

  it('hold for ids that match, and for listeners: the least of them', () => {
    expect(of(['client:esp-*=256'], 'esp-1')).toBe(256)
    expect(of(['client:esp-*=256'], 'ESP-1')).toBe(0x7fffffff)
    expect(of(['client:*=300', 'listener:1884=200'], 'x', 1884)).toBe(200)
    expect(of(['client:a*b*c=99'], 'a-b-b-c')).toBe(99)
    expect(of(['client:a*b*c=99'], 'ac')).toBe(0x7fffffff)
    expect(of(['client:ab*ba=99'], 'aba')).toBe(0x7fffffff)
    expect(of(['client:x=y=99'], 'x=y')).toBe(99)
  })
})

describe('aliases that we give', () => {
  it('stay within their count and bytes, whatever the topics', () => {
    const aliases = new OutgoingAliases(4, 100)
    const known = new Map<number, string>()
    for (let i = 0; i < 10_000; i++) {
      const topic = `t${'x'.repeat((i * 7) % 50)}${i % 9}`
      const chosen = aliases.choose(topic)
      expect(Math.abs(chosen)).toBeLessThanOrEqual(4)
      if (chosen > 0) expect(known.get(chosen)).toBe(topic)
      if (chosen < 0 && i % 3 > 0) {
        aliases.keep(-chosen, topic)
        known.set(-chosen, topic)
      }
      expect([...known.values()].join('').length).toBeLessThanOrEqual(100)
    }
    expect(known.size).toBeGreaterThan(1)
  })

  it('are not driven out by topics that come once', () => {
    const aliases = new OutgoingAliases(2, 10_000)
    for (const topic of ['first', 'second']) aliases.keep(-aliases.choose(topic), topic)
    for (let i = 0; i < 1_000; i++) {
      expect(aliases.choose(`once/${i}`)).toBe(0)
      expect([aliases.choose('first'), aliases.choose('second')]).toEqual([1, 2])
    }
  })
})
