import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DEFAULT_LIMITS } from '../../src/core/limits.ts'
import {
  bindingKeyToFilter,
  filterMatches,
  filterToBindingKey,
  hasWildcard,
  isDollarTopic,
  isMqttTopic,
  isValidFilter,
  isValidTopic,
  parseSharedFilter,
  swapSeparators
} from '../../src/core/topic.ts'

const limits = DEFAULT_LIMITS
const anyKey = fc
  .array(fc.constantFrom('/', '.', '+', '*', '#', 'a', 'é', '$', ' '), { maxLength: 12 })
  .map(units => units.join(''))

describe('a topic name', () => {
  it.each(['a', '/', '//', 'a/b', ' ', '/a', 'a/', '$SYS/x', 'a.b/*', 'température/💧'])(
    'may be %j',
    topic => {
      expect(isValidTopic(topic, limits)).toBe(true)
    }
  )

  it.each(['', 'a/+', '#', 'a#', 'a+b', '\0', 'a\0b', '\ud800', 'a\udc00b', 'x\ud83d/'])(
    'may not be %j, v5 [MQTT-3.3.2-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]',
    topic => {
      expect(isValidTopic(topic, limits)).toBe(false)
    }
  )

  it('has at most 200 separators and 65,535 bytes of UTF-8', () => {
    expect(isValidTopic('/'.repeat(200), limits)).toBe(true)
    expect(isValidTopic('/'.repeat(201), limits)).toBe(false)
    expect(isValidTopic('/'.repeat(65_535), limits)).toBe(false)
    expect(isValidTopic('x'.repeat(65_535), limits)).toBe(true)
    expect(isValidTopic('x'.repeat(65_536), limits)).toBe(false)
    expect(isValidTopic('é'.repeat(32_767), limits)).toBe(true)
    expect(isValidTopic('é'.repeat(32_768), limits)).toBe(false)
    expect(isValidTopic('💧'.repeat(16_384), limits)).toBe(false)
  })

  it('reaches MQTT from AMQP unless it is a $ topic or no valid one', () => {
    expect(isMqttTopic('a/b', limits)).toBe(true)
    for (const key of ['', '$a', '$SYS/x', 'a/#', 'a/+', 'a\0']) {
      expect(isMqttTopic(key, limits)).toBe(false)
    }
    expect(isDollarTopic('$a')).toBe(true)
    expect(isDollarTopic('a/$')).toBe(false)
    expect(isDollarTopic('')).toBe(false)
  })
})

describe('a topic filter', () => {
  it.each(['#', '+', '+/+', 'a/#', '/+', '+/', '/#', 'a/+/b/#', 'a', '/', '$SYS/#', '💧/+'])(
    'may be %j',
    filter => {
      expect(isValidFilter(filter, limits)).toBe(true)
    }
  )

  it.each(['', 'a#', '#/a', 'a+/b', '+a', 'a/#/b', '##', '++', '#+', 'a/#b', 'a\0/#', '\udc00/#'])(
    'may not be %j, v5 [MQTT-4.7.1-1] [MQTT-4.7.1-2]',
    filter => {
      expect(isValidFilter(filter, limits)).toBe(false)
    }
  )

  it('has at most 200 separators and 65,535 bytes', () => {
    expect(isValidFilter(`${'+/'.repeat(200)}#`, limits)).toBe(true)
    expect(isValidFilter(`${'+/'.repeat(201)}#`, limits)).toBe(false)
    expect(isValidFilter('é'.repeat(32_768), limits)).toBe(false)
  })

  it('has a wildcard only where a whole level is one', () => {
    for (const filter of ['+', '#', 'a/+', '+/a', 'a/+/b', 'a+/+', 'a/#/b', '##/#']) {
      expect(hasWildcard(filter)).toBe(true)
    }
    for (const filter of ['a', 'a+', '+a/b', 'a/b#/c', '##', '', '*']) {
      expect(hasWildcard(filter)).toBe(false)
    }
  })

  it('matches as the examples of the specification (MQTT 5 §4.7.1) say', () => {
    const player = 'sport/tennis/player1'
    const yes: [string, string][] = [
      [`${player}/#`, player],
      [`${player}/#`, `${player}/ranking`],
      [`${player}/#`, `${player}/score/wimbledon`],
      ['sport/#', 'sport'],
      ['#', 'a'],
      ['sport/tennis/+', player],
      ['sport/+', 'sport/'],
      ['+/+', '/finance'],
      ['/+', '/finance'],
      ['$SYS/#', '$SYS/broker/load'],
      ['$SYS/monitor/+', '$SYS/monitor/Clients'],
      ['a/#/c', 'a/c'],
      ['a/#/c', 'a/b/b/c'],
      ['#/#', 'a'],
      ['a/*', 'a/*']
    ]
    const no: [string, string][] = [
      ['sport/tennis/+', `${player}/ranking`],
      ['sport/+', 'sport'],
      ['+', '/finance'],
      ['#', '$SYS/x'],
      ['+/monitor/Clients', '$SYS/monitor/Clients'],
      ['#/$x', '$x'],
      ['a', 'A'],
      ['a/b', 'a/b/'],
      ['a/#/c', 'a/c/d'],
      ['a/*', 'a/b']
    ]
    const is = ([filter, topic]: [string, string]) => filterMatches(filter, topic)
    expect(yes.filter(pair => !is(pair))).toEqual([])
    expect(no.filter(is)).toEqual([])
  })
})

describe('between MQTT and AMQP', () => {
  it.each([
    ['a/b', 'a.b'],
    ['a.b/c', 'a/b.c'],
    ['192.168.0.1/t', '192/168/0/1.t'],
    ['', ''],
    ['ab', 'ab'],
    ['/a//b/', '.a..b.'],
    ['a/*/b', 'a.*.b']
  ])('the topic %j is the routing key %j', (topic, key) => {
    expect(swapSeparators(topic)).toBe(key)
    expect(swapSeparators(key)).toBe(topic)
  })

  it.each([
    ['a/+/#', 'a.*.#'],
    ['+', '*'],
    ['a/*/b', 'a.+.b'],
    ['a*b/c+', 'a*b.c+'],
    ['a.b/+', 'a/b.*'],
    ['a/#/b', 'a.#.b']
  ])('the filter %j is the binding key %j', (filter, key) => {
    expect(filterToBindingKey(filter)).toBe(key)
    expect(bindingKeyToFilter(key)).toBe(filter)
  })

  it('nothing is lost on the way there and back', () => {
    fc.assert(
      fc.property(anyKey, text => {
        expect(swapSeparators(swapSeparators(text))).toBe(text)
        expect(bindingKeyToFilter(filterToBindingKey(text))).toBe(text)
        expect(filterToBindingKey(bindingKeyToFilter(text))).toBe(text)
      }),
      { numRuns: 2_000 }
    )
  })
})

describe('a shared subscription', () => {
  it('is its group and the inner filter', () => {
    expect(parseSharedFilter('$share/g/a/+/#', limits)).toEqual({ group: 'g', filter: 'a/+/#' })
    expect(parseSharedFilter('$share/g//', limits)).toEqual({ group: 'g', filter: '/' })
    expect(parseSharedFilter('$share/$x/$SYS/#', limits)).toEqual({ group: '$x', filter: '$SYS/#' })
  })

  it.each([
    '$share//x',
    '$share/g',
    '$share/g/',
    '$share/',
    '$share/g+/x',
    '$share/#/x',
    '$share/g/a#'
  ])('is invalid as %j, v5 [MQTT-4.8.2-1] [MQTT-4.8.2-2]', text => {
    expect(parseSharedFilter(text, limits)).toBe('invalid')
  })

  it.each(['a/b', '$share', '$shared/g/x', '$SHARE/g/x', '$queue/x', 'x/$share/g/a'])(
    'is not what %j asks for',
    text => {
      expect(parseSharedFilter(text, limits)).toBeNull()
    }
  )
})
