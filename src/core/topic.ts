/**
 * Topics, topic filters and routing keys. A *topic* never has wildcards, a *filter* may.
 *
 * Inside the core everything stands in *topic form*: levels separated by `/`, wildcards `+` and `#`
 * (MQTT 5 §4.7). AMQP's routing and binding keys are the same with `.` and `*`: `/` and `.` change
 * places, and in filters a level that is `+` or `*` alone, so the way there and back loses nothing.
 * A filter that comes from a binding key may have `#` at any level, for zero or more levels.
 */
import type { Limits } from './limits.ts'

export type TopicLimits = Pick<Limits, 'topicBytesMax' | 'topicSeparatorsMax'>

const NUL = 0x00
const HASH = 0x23
const DOLLAR = 0x24
const PLUS = 0x2b
const DOT = 0x2e
const SLASH = 0x2f
/** A UTF-16 unit is at most 3 bytes of UTF-8: shorter strings need no count. */
const UTF8_BYTES_A_UNIT = 3

/**
 * A topic name that may be published to, as far as its characters go: not empty, no wildcards
 * [MQTT-3.3.2-2], no U+0000 [MQTT-4.7.3-2], no lone surrogate [MQTT-1.5.4-1], within the limits.
 */
export function isValidTopic(topic: string, limits: TopicLimits): boolean {
  const length = topic.length
  if (length === 0) return false // [MQTT-4.7.3-1]
  let separators = 0
  for (let i = 0; i < length; i++) {
    const unit = topic.charCodeAt(i)
    if (unit === SLASH) separators += 1
    else if (unit === NUL || unit === PLUS || unit === HASH) return false
    else if (unit >= 0xd800 && unit <= 0xdfff) {
      if (!isSurrogatePair(topic, i)) return false
      i += 1
    }
  }
  return separators <= limits.topicSeparatorsMax && fits(topic, limits.topicBytesMax)
}

/**
 * An MQTT topic filter: `+` and `#` only as a whole level [MQTT-4.7.1-2], `#` only as the last one
 * [MQTT-4.7.1-1]; the rest as for topics.
 */
export function isValidFilter(filter: string, limits: TopicLimits): boolean {
  const length = filter.length
  if (length === 0) return false
  let separators = 0
  for (let i = 0; i < length; i++) {
    const unit = filter.charCodeAt(i)
    if (unit === SLASH) separators += 1
    else if (unit === NUL) return false
    else if (unit === PLUS) {
      if (!isWholeLevel(filter, i)) return false
    } else if (unit === HASH) {
      if (i !== length - 1 || !isWholeLevel(filter, i)) return false
    } else if (unit >= 0xd800 && unit <= 0xdfff) {
      if (!isSurrogatePair(filter, i)) return false
      i += 1
    }
  }
  return separators <= limits.topicSeparatorsMax && fits(filter, limits.topicBytesMax)
}

/** Whether a filter has a level that is `+` or `#`. Without one it matches exactly one topic: itself. */
export function hasWildcard(filter: string): boolean {
  return hasLevel(filter, '+') || hasLevel(filter, '#')
}

/** `$SYS`, `$share` and the like: no client may publish there, no leading wildcard matches it [MQTT-4.7.2-1]. */
export function isDollarTopic(topic: string): boolean {
  return topic.charCodeAt(0) === DOLLAR
}

/** Whether an AMQP key, turned into topic form, may go to MQTT subscribers and be retained. */
export function isMqttTopic(key: string, limits: TopicLimits): boolean {
  return !isDollarTopic(key) && isValidTopic(key, limits)
}

/**
 * Whether `filter` matches `topic`, level by level: for cold use, and what the trie is held against.
 * `#` stands for zero or more levels, wherever it is; a wildcard as first level matches no `$` topic.
 */
export function filterMatches(filter: string, topic: string): boolean {
  const wanted = filter.split('/')
  const levels = topic.split('/')
  if (isDollarTopic(topic) && (wanted[0] === '+' || wanted[0] === '#')) return false
  // reached[j]: the filter's levels so far match the topic's first j levels.
  let reached = new Array<boolean>(levels.length + 1).fill(false)
  reached[0] = true
  for (const level of wanted) {
    const next = new Array<boolean>(levels.length + 1).fill(false)
    if (level === '#') {
      const first = reached.indexOf(true)
      if (first !== -1) next.fill(true, first)
    } else {
      for (let j = 0; j < levels.length; j++) {
        next[j + 1] = reached[j] === true && (level === '+' || level === levels[j])
      }
    }
    reached = next
  }
  return reached[levels.length] === true
}

/** Exchanges `/` and `.`: a topic into a routing key and back. Its own inverse. */
export function swapSeparators(text: string): string {
  const length = text.length
  let swapped = ''
  let start = 0
  for (let i = 0; i < length; i++) {
    const unit = text.charCodeAt(i)
    if (unit !== SLASH && unit !== DOT) continue
    swapped += text.substring(start, i) + (unit === SLASH ? '.' : '/')
    start = i + 1
  }
  return start === 0 ? text : swapped + text.substring(start)
}

/** A filter (topic form) as AMQP writes it: `a/+/#` is `a.*.#`. */
export function filterToBindingKey(filter: string): string {
  return swapWildcards(swapSeparators(filter), '.')
}

/** A binding key in topic form: `a.*.#` is `a/+/#`. Any key is allowed; `#` may stand at any level. */
export function bindingKeyToFilter(key: string): string {
  return swapWildcards(swapSeparators(key), '/')
}

export interface SharedFilter {
  readonly group: string
  /** The inner filter: what is matched, and what permissions are asked for. */
  readonly filter: string
}

/**
 * `$share/group/filter` in its parts (MQTT 5 §4.8.2); null: it is no shared subscription; 'invalid':
 * the group is empty or has a wildcard [MQTT-4.8.2-1], or the filter is missing or wrong [MQTT-4.8.2-2].
 */
export function parseSharedFilter(
  text: string,
  limits: TopicLimits
): SharedFilter | 'invalid' | null {
  const prefix = '$share/'
  if (!text.startsWith(prefix)) return null
  const slash = text.indexOf('/', prefix.length)
  if (slash === -1) return 'invalid'
  const group = text.substring(prefix.length, slash)
  if (group === '' || group.includes('+') || group.includes('#')) return 'invalid'
  const filter = text.substring(slash + 1)
  return isValidFilter(filter, limits) ? { group, filter } : 'invalid'
}

function fits(text: string, bytesMax: number): boolean {
  if (text.length * UTF8_BYTES_A_UNIT <= bytesMax) return true
  return text.length <= bytesMax && Buffer.byteLength(text) <= bytesMax
}

function isWholeLevel(filter: string, at: number): boolean {
  if (at > 0 && filter.charCodeAt(at - 1) !== SLASH) return false
  return at === filter.length - 1 || filter.charCodeAt(at + 1) === SLASH
}

function hasLevel(filter: string, wildcard: '+' | '#'): boolean {
  let at = filter.indexOf(wildcard)
  while (at !== -1) {
    if (isWholeLevel(filter, at)) return true
    at = filter.indexOf(wildcard, at + 1)
  }
  return false
}

function isSurrogatePair(text: string, at: number): boolean {
  if (text.charCodeAt(at) > 0xdbff) return false
  const low = text.charCodeAt(at + 1)
  return low >= 0xdc00 && low <= 0xdfff
}

/** Levels that are `+` or `*` alone change places; as part of a longer level both are ordinary. */
function swapWildcards(text: string, separator: '/' | '.'): string {
  if (!text.includes('+') && !text.includes('*')) return text
  const levels = text.split(separator)
  for (let i = 0; i < levels.length; i++) {
    if (levels[i] === '+') levels[i] = '*'
    else if (levels[i] === '*') levels[i] = '+'
  }
  return levels.join(separator)
}
