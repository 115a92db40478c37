/**
 * What a principal may do: one function a question, for every protocol.
 *
 * Topics: a deny that matches decides, then an allow that matches; without either, only a principal
 * without restrictions passes (no rule exists in the whole broker). No client publishes to a topic that
 * begins with `$`; `$SYS` is read by administrators and monitors, and by whom a rule that begins with
 * `$SYS` allows it; other `$` topics by nobody.
 *
 * Queues and exchanges: RabbitMQ's three regular expressions. Who has those and no rule on topics uses MQTT
 * as far as they let it use MQTT's exchange; RabbitMQ's topic permissions narrow that down.
 *
 * Rules are compiled once for each principal (which never changes), and once more for each client
 * identifier where a rule has `%c`. What is kept is bounded.
 */
import { DEFAULT_LIMITS } from './limits.ts'
import { hasClientId, KeyPatterns } from './key-patterns.ts'
import type { Access, Principal, ResourceRule, TopicRule } from './principal.ts'
import { hasWildcard, isDollarTopic, isValidFilter, swapSeparators } from './topic.ts'
import { coversFilter, intersectFilters } from './topic-filter-sets.ts'
import { TopicTrie } from './topic-trie.ts'

export type ResourceAccess = 'configure' | 'write' | 'read'

/** Of the topics that a filter can match, the principal may read all, none, or some (or it is not known). */
export type FilterVerdict = 'all' | 'some' | 'none'

/** Client identifiers for which one principal's rules are kept compiled. */
const CLIENTS_MAX = 1_000
/** Names for which one principal's answers are kept. */
const NAMES_MAX = 1_000
/** RabbitMQ's name for the exchange without a name, which no expression could match. */
const DEFAULT_EXCHANGE = 'amq.default'
const MQTT_EXCHANGE = 'amq.topic'

/** May this principal, as this client, read or write this topic (topic form)? For the hot path. */
export function mayTopic(
  principal: Principal,
  access: Access,
  topic: string,
  clientId: string
): boolean {
  if (isDollarTopic(topic)) {
    if (access === 'write' || !isSysTopic(topic)) return false
    if (principal.topics.length === 0) return principal.seesSys
    // No wildcard matches a `$`: what allows it says so.
    const decision = compiled(principal).topicRules(clientId).decide(access, topic)
    return decision === null ? principal.seesSys : decision === 'allow'
  }
  if (!principal.judgesTopics) return principal.isUnrestricted || mayMqtt(principal, access)
  if (principal.topics.length === 0 && !mayMqtt(principal, access)) return false
  return mayKey(principal, access, MQTT_EXCHANGE, topic, clientId)
}

/**
 * May this principal, as this client, answer a request over the default exchange, where `topic` leads: as AMQP's write
 * permission for that says, or a rule that names such topics (no wildcard matches their `$`).
 */
export function mayAnswer(principal: Principal, topic: string, clientId: string): boolean {
  if (principal.topics.length > 0) {
    const decision = compiled(principal).topicRules(clientId).decide('write', topic)
    if (decision !== null) return decision === 'allow'
  }
  return mayResource(principal, 'write', '')
}

/** Where no rule is about topics, MQTT is one exchange, which may be written and read or not, as in RabbitMQ. */
function mayMqtt(principal: Principal, access: Access): boolean {
  if (principal.isUnrestricted) return true
  return principal.resources.length > 0 && compiled(principal).mayResource(access, MQTT_EXCHANGE)
}

/** Of a topic exchange that may be written or read: this topic (topic form) too? */
export function mayKey(
  principal: Principal,
  access: Access,
  exchange: string,
  topic: string,
  clientId: string
): boolean {
  if (principal.topics.length > 0) {
    const decision = compiled(principal).topicRules(clientId).decide(access, topic)
    if (decision === null ? !principal.isUnrestricted : decision !== 'allow') return false
  }
  if (principal.topicPermissions.length === 0) return true
  return compiled(principal).keyPatterns(clientId).test(access, exchange, topic)
}

/** RabbitMQ's topic permissions of a binding: they are asked for its key as it is written, wildcards and all. */
export function mayBindingKey(principal: Principal, exchange: string, key: string): boolean {
  if (principal.topicPermissions.length === 0) return true
  return compiled(principal).keyPatterns('').test('read', exchange, swapSeparators(key))
}

/**
 * What a subscription to `filter` (topic form, the inner one of a shared subscription) may bring. 'none'
 * is refused; 'some' is granted and each message judged; 'all' needs no judging. 'all' and 'none' are
 * certain; what only several rules together decide is 'some'.
 */
export function mayFilter(principal: Principal, filter: string, clientId: string): FilterVerdict {
  if (!hasWildcard(filter)) return mayTopic(principal, 'read', filter, clientId) ? 'all' : 'none'
  const isDollar = isDollarTopic(filter)
  if (isDollar && !isSysTopic(filter)) return 'none'
  const isFree = isDollar ? principal.seesSys : principal.isUnrestricted
  const verdict = judgeFilter(principal, filter, clientId, isFree, isDollar)
  // A regular expression says nothing of filters: each message is judged.
  return verdict === 'all' && principal.topicPermissions.length > 0 && !isDollar ? 'some' : verdict
}

function judgeFilter(
  principal: Principal,
  filter: string,
  clientId: string,
  isFree: boolean,
  isDollar: boolean
): FilterVerdict {
  if (principal.topics.length > 0) {
    return compiled(principal).topicRules(clientId).decideFilter(filter, isFree)
  }
  return isFree || (!isDollar && mayMqtt(principal, 'read')) ? 'all' : 'none'
}

/** May this principal configure, write or read the queue or exchange of this name, in its vhost? */
export function mayResource(principal: Principal, access: ResourceAccess, name: string): boolean {
  if (principal.isUnrestricted) return true
  return compiled(principal).mayResource(access, name === '' ? DEFAULT_EXCHANGE : name)
}

/**
 * A permission's regular expression; null: it is not valid. It is searched for, not anchored, as RabbitMQ
 * does; '' matches no name.
 */
export function compileResourcePattern(pattern: string): RegExp | null {
  try {
    return new RegExp(pattern === '' ? '^$' : pattern)
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}

/** Whether a rule's filter is one: for whoever reads rules, who refuses those that are not. */
export function isValidRuleFilter(filter: string): boolean {
  return isValidFilter(filter.replaceAll('%u', 'u').replaceAll('%c', 'c'), DEFAULT_LIMITS)
}

/** The topic rules of one principal as one client. */
class TopicRules {
  private readonly rules: TopicRule[]
  private readonly trie: TopicTrie<TopicRule>
  private readonly matched: TopicRule[]

  constructor(rules: readonly TopicRule[]) {
    this.rules = [...rules]
    this.trie = new TopicTrie()
    this.matched = []
    for (const rule of rules) this.trie.insert(rule.filter, rule)
  }

  decide(access: Access, topic: string): 'allow' | 'deny' | null {
    const matched = this.matched
    matched.length = 0
    this.trie.match(topic, matched)
    let isAllowed = false
    for (let i = 0; i < matched.length; i++) {
      const rule = matched[i] as TopicRule
      if (rule.access !== access && rule.access !== 'readwrite') continue
      if (rule.effect === 'deny') return 'deny'
      isAllowed = true
    }
    return isAllowed ? 'allow' : null
  }

  /** `isFree`: what no rule decides is allowed. */
  decideFilter(filter: string, isFree: boolean): FilterVerdict {
    // A filter with `#` in the middle (a binding key) is judged as the wider one that ends there.
    const levels = filter.split('/')
    const hash = levels.indexOf('#')
    const asked = hash === -1 ? filter : levels.slice(0, hash + 1).join('/')
    const readable = this.rules.filter(rule => rule.access !== 'write')
    const allows = readable.filter(rule => rule.effect === 'allow').map(rule => rule.filter)
    if (isFree) allows.push(asked)
    const denies = readable
      .filter(rule => rule.effect === 'deny' && intersectFilters(asked, rule.filter) !== null)
      .map(rule => rule.filter)
    let canMatch = false
    for (const allow of allows) {
      const common = intersectFilters(asked, allow)
      if (common !== null && !denies.some(deny => coversFilter(deny, common))) canMatch = true
    }
    if (!canMatch) return 'none'
    return denies.length === 0 && allows.some(allow => coversFilter(allow, asked)) ? 'all' : 'some'
  }
}

class CompiledPrincipal {
  private readonly principal: Principal
  /** The rules without `%c`, null if there are others. */
  private readonly common: TopicRules | null
  private readonly byClient: Map<string, TopicRules>
  private readonly keysByClient: Map<string, KeyPatterns>
  private readonly patterns: Record<ResourceAccess, RegExp | null>
  private readonly answers: Record<ResourceAccess, Map<string, boolean>>

  constructor(principal: Principal) {
    this.principal = principal
    const isPersonal = principal.topics.some(rule => rule.filter.includes('%c'))
    this.common = isPersonal ? null : new TopicRules(fillIn(principal, ''))
    this.byClient = new Map()
    this.keysByClient = new Map()
    const rule = principal.resources.find(({ vhost }) => vhost === principal.vhost) ?? NO_RESOURCES
    this.patterns = {
      configure: compileResourcePattern(rule.configure),
      write: compileResourcePattern(rule.write),
      read: compileResourcePattern(rule.read)
    }
    this.answers = { configure: new Map(), write: new Map(), read: new Map() }
  }

  topicRules(clientId: string): TopicRules {
    if (this.common !== null) return this.common
    let rules = this.byClient.get(clientId)
    if (rules === undefined) {
      rules = new TopicRules(fillIn(this.principal, clientId))
      if (this.byClient.size >= CLIENTS_MAX) this.byClient.clear()
      this.byClient.set(clientId, rules)
    }
    return rules
  }

  keyPatterns(clientId: string): KeyPatterns {
    const id = this.principal.topicPermissions.some(hasClientId) ? clientId : ''
    let patterns = this.keysByClient.get(id)
    if (patterns === undefined) {
      patterns = new KeyPatterns(this.principal, id)
      if (this.keysByClient.size >= CLIENTS_MAX) this.keysByClient.clear()
      this.keysByClient.set(id, patterns)
    }
    return patterns
  }

  mayResource(access: ResourceAccess, name: string): boolean {
    const answers = this.answers[access]
    let answer = answers.get(name)
    if (answer === undefined) {
      answer = this.patterns[access]?.test(name) ?? false
      if (answers.size >= NAMES_MAX) answers.clear()
      answers.set(name, answer)
    }
    return answer
  }
}

const NO_RESOURCES: ResourceRule = { vhost: '', configure: '', write: '', read: '' }

const principals = new WeakMap<Principal, CompiledPrincipal>()

function compiled(principal: Principal): CompiledPrincipal {
  let found = principals.get(principal)
  if (found === undefined) {
    found = new CompiledPrincipal(principal)
    principals.set(principal, found)
  }
  return found
}

/** The principal's rules with the names put in; rules that a name would widen are left out. */
function fillIn(principal: Principal, clientId: string): TopicRule[] {
  const rules: TopicRule[] = []
  for (const rule of principal.topics) {
    if (isValidRuleFilter(rule.filter)) {
      const filter = substitute(rule.filter, principal.name, clientId)
      if (filter !== null) rules.push({ effect: rule.effect, access: rule.access, filter })
    } else if (rule.effect === 'deny') {
      // Nobody should have taken such a rule; what it meant to deny is not known.
      rules.push({ effect: 'deny', access: rule.access, filter: '#' })
    }
  }
  return rules
}

/** Null: a name that is needed is missing, or would be more than a literal part of one level. */
function substitute(filter: string, user: string, clientId: string): string | null {
  let result = ''
  let start = 0
  for (let at = filter.indexOf('%'); at !== -1; at = filter.indexOf('%', at + 1)) {
    const letter = filter.charAt(at + 1)
    if (letter !== 'u' && letter !== 'c') continue
    const name = letter === 'u' ? user : clientId
    if (!isLiteral(name)) return null
    result += filter.substring(start, at) + name
    start = at + 2
  }
  return result + filter.substring(start)
}

function isLiteral(name: string): boolean {
  return name !== '' && !/[/+#\0]/.test(name)
}

function isSysTopic(topic: string): boolean {
  return topic === '$SYS' || topic.startsWith('$SYS/')
}
