/** The options that are lists of things: users, topic rules, queues. Written in files only. */
import { isAddressRange } from '../lib/address-range.ts'
import {
  DEFAULT_SETTINGS,
  isOrigin,
  type ListenerOption,
  type ListenerSettings,
  parseListenerUrl
} from './listener-url.ts'
import { shown } from './mistake.ts'
import { readListenerTls } from './tls.ts'
import type { YamlFile } from './yaml-node.ts'

export interface TopicRuleOption {
  readonly effect: 'allow' | 'deny'
  readonly access: 'read' | 'write' | 'readwrite'
  readonly filter: string
  /** Absent: in every virtual host. */
  readonly vhost?: string
}

export interface ResourceRuleOption {
  readonly vhost: string
  readonly configure: string
  readonly write: string
  readonly read: string
}

export interface UserOption {
  readonly name: string
  readonly tags: readonly string[]
  readonly passwordHash: string
  /** Made when a password is set with `motemq users`, never from a file. */
  readonly scram: ''
  readonly resources: readonly ResourceRuleOption[]
  readonly topics: readonly TopicRuleOption[]
}

export type BindingOption =
  /** An MQTT topic filter, for the vhost's topic exchange. */
  | { readonly kind: 'filter'; readonly filter: string }
  | { readonly kind: 'exchange'; readonly exchange: string; readonly key: string }

export interface QueueOption {
  readonly name: string
  readonly vhost: string
  readonly durable: boolean
  readonly arguments: Readonly<Record<string, string | number | boolean>>
  readonly bindings: readonly BindingOption[]
}

/** A thing of a list with the place it was read at, to name it when it turns out to be there twice. */
export interface Placed<T> {
  readonly value: T
  readonly where: string
}

const NAME_BYTES_MAX = 255
const LISTENER_KEYS = ['insecure', 'vhost', 'origins', 'proxyProtocol', 'tls'] as const
const ACCESS = ['read', 'write', 'readwrite'] as const

export function readListeners(yaml: YamlFile, node: unknown): Placed<ListenerOption>[] {
  const found: Placed<ListenerOption>[] = []
  for (const item of yaml.items(node, 'listeners') ?? []) {
    for (const value of readListener(yaml, item)) found.push({ value, where: yaml.where(item) })
  }
  return found
}

function readListener(yaml: YamlFile, item: unknown): readonly ListenerOption[] {
  let url: string | null = null
  let urlNode = item
  let settings: Partial<ListenerSettings> | null = DEFAULT_SETTINGS
  if (yaml.isScalar(item)) url = yaml.text(item, 'a listener')
  else {
    const entries = yaml.entries(item, 'a listener', ['url', ...LISTENER_KEYS])
    if (entries === null) return []
    for (const { key, value } of entries) {
      if (key === 'url') {
        url = yaml.text(value, 'url')
        urlNode = value
        if (url === null) return []
        continue
      }
      const setting = readSetting(yaml, key as (typeof LISTENER_KEYS)[number], value)
      settings = settings === null || setting === null ? null : { ...settings, ...setting }
    }
    if (url === null) yaml.mistake(item, 'this listener has no url')
  }
  if (url === null || settings === null) return []
  const parsed = parseListenerUrl(url, settings)
  if (parsed.ok) return parsed.listeners
  yaml.mistake(urlNode, parsed.why)
  return []
}

/** What a listener says beside its URL; null: a mistake. */
function readSetting(
  yaml: YamlFile,
  key: (typeof LISTENER_KEYS)[number],
  node: unknown
): Partial<ListenerSettings> | null {
  switch (key) {
    case 'insecure': {
      const insecure = yaml.boolean(node, key)
      return insecure === null ? null : { insecure }
    }
    case 'vhost': {
      const vhost = yaml.text(node, key)
      return vhost === null ? null : { vhost }
    }
    case 'origins': {
      const origins = readTexts(yaml, node, key)
      const wrong = origins.find(origin => !isOrigin(origin))
      if (wrong === undefined) return { origins }
      return yaml.mistake(node, `${shown(wrong)} is no origin such as https://example.org`)
    }
    case 'proxyProtocol':
      return readProxyProtocol(yaml, node)
    case 'tls':
      return { tls: readListenerTls(yaml, node) }
  }
}

function readProxyProtocol(yaml: YamlFile, node: unknown): Partial<ListenerSettings> | null {
  const entries = yaml.entries(node, 'proxyProtocol', ['from'])
  if (entries === null) return null
  const proxyFrom = entries.flatMap(({ value }) => readTexts(yaml, value, 'from'))
  const wrong = proxyFrom.find(text => !isAddressRange(text))
  if (wrong !== undefined) {
    return yaml.mistake(node, `${shown(wrong)} is no address such as 10.0.0.7 or 10.0.0.0/8`)
  }
  if (proxyFrom.length > 0) return { proxyFrom }
  return yaml.mistake(node, 'proxyProtocol names no address that the header is taken from')
}

export function readTexts(yaml: YamlFile, node: unknown, name: string): string[] {
  const texts: string[] = []
  for (const item of yaml.items(node, name) ?? []) {
    const text = yaml.text(item, `an entry of ${name}`)
    if (text !== null) texts.push(text)
  }
  return texts
}

export function readTopicRules(yaml: YamlFile, node: unknown): Placed<TopicRuleOption>[] {
  const rules: Placed<TopicRuleOption>[] = []
  for (const item of yaml.items(node, 'topics') ?? []) {
    const value = readTopicRule(yaml, item)
    if (value !== null) rules.push({ value, where: yaml.where(item) })
  }
  return rules
}

function readTopicRule(yaml: YamlFile, item: unknown): TopicRuleOption | null {
  const entries = yaml.entries(item, 'a topic rule', ['allow', 'deny', 'filter', 'vhost'])
  if (entries === null) return null
  let effect: 'allow' | 'deny' | null = null
  let access: TopicRuleOption['access'] | null = null
  let filter: string | null = null
  let vhost: string | null = null
  let isGood = true
  for (const { key, keyNode, value } of entries) {
    const text = yaml.text(value, key)
    if (text === null) isGood = false
    else if (key === 'vhost') vhost = text
    else if (key === 'filter') {
      filter = text
      if (isTopicFilter(text)) continue
      isGood = false
      yaml.mistake(value, `${shown(text)} is no topic filter`)
    } else if (effect !== null) {
      isGood = false
      yaml.mistake(keyNode, 'a topic rule says either allow or deny')
    } else {
      effect = key as 'allow' | 'deny'
      access = ACCESS.find(known => known === text) ?? null
      if (access !== null) continue
      isGood = false
      yaml.mistake(value, `${shown(text)} is not one of ${ACCESS.join(', ')}`)
    }
  }
  if (!isGood) return null
  if (effect === null || access === null) {
    return yaml.mistake(item, 'this topic rule says neither allow nor deny')
  }
  if (filter === null) return yaml.mistake(item, 'this topic rule has no filter')
  return vhost === null ? { effect, access, filter } : { effect, access, filter, vhost }
}

/** [MQTT-4.7.1-2], [MQTT-4.7.1-3]: `#` only as the last level, `+` only as a whole level. */
export function isTopicFilter(filter: string): boolean {
  if (filter === '' || filter.includes('\u0000') || Buffer.byteLength(filter) > 65_535) return false
  const levels = filter.split('/')
  return levels.every((level, i) => {
    if (level.includes('#')) return level === '#' && i === levels.length - 1
    return !level.includes('+') || level === '+'
  })
}

const USER_KEYS = ['name', 'passwordHash', 'password', 'tags', 'topics', 'permissions']

export function readUsers(yaml: YamlFile, node: unknown): Placed<UserOption>[] {
  const users: Placed<UserOption>[] = []
  for (const item of yaml.items(node, 'users') ?? []) {
    const value = readUser(yaml, item)
    if (value !== null) users.push({ value, where: yaml.where(item) })
  }
  return users
}

function readUser(yaml: YamlFile, item: unknown): UserOption | null {
  const entries = yaml.entries(item, 'a user', USER_KEYS)
  if (entries === null) return null
  let name: string | null = null
  let passwordHash = ''
  let tags: string[] = []
  let topics: TopicRuleOption[] = []
  let resources: ResourceRuleOption[] = []
  for (const { key, keyNode, value } of entries) {
    if (key === 'name') name = readName(yaml, value, 'name', 256)
    else if (key === 'tags') tags = readTexts(yaml, value, 'tags')
    else if (key === 'topics') topics = readTopicRules(yaml, value).map(rule => rule.value)
    else if (key === 'permissions') resources = readResourceRules(yaml, value)
    else if (key === 'passwordHash') passwordHash = readPasswordHash(yaml, value)
    else {
      yaml.mistake(
        keyNode,
        'a password does not stand in a file as plain text; write passwordHash with what `motemq users hash` prints'
      )
    }
  }
  if (!entries.some(entry => entry.key === 'name')) yaml.mistake(item, 'this user has no name')
  return name === null ? null : { name, tags, passwordHash, scram: '', resources, topics }
}

/** `scrypt$N$r$p$salt$hash`, with a bound on what one check may cost: 128 × N × r bytes. */
export function isPasswordHash(text: string): boolean {
  // RabbitMQ's, four bytes of salt and the hash.
  if (/^rabbit-(sha256\$[A-Za-z0-9+/]{48}|sha512\$[A-Za-z0-9+/]{91}=)$/.test(text)) return true
  const match =
    /^scrypt\$(\d{1,8})\$(\d{1,2})\$(\d{1,2})\$[A-Za-z0-9+/]{16,88}={0,2}\$[A-Za-z0-9+/]{40,88}={0,2}$/.exec(
      text
    )
  if (match === null) return false
  const [n, r, p] = [Number(match[1]), Number(match[2]), Number(match[3])]
  const isPowerOfTwo = n >= 2 && (n & (n - 1)) === 0
  return isPowerOfTwo && r >= 1 && p >= 1 && p <= 4 && 128 * n * r <= 64 * 1024 * 1024
}

function readPasswordHash(yaml: YamlFile, node: unknown): string {
  const text = yaml.text(node, 'passwordHash')
  if (text === null) return ''
  if (isPasswordHash(text)) return text
  // The text itself is not shown: it may be a password put into the wrong place.
  yaml.mistake(
    node,
    'passwordHash is no hash that this version knows; `motemq users hash` prints one (scrypt$...)'
  )
  return ''
}

function readName(
  yaml: YamlFile,
  node: unknown,
  what: string,
  bytesMax = NAME_BYTES_MAX
): string | null {
  const text = yaml.text(node, what)
  if (text === null) return null
  if (text === '') return yaml.mistake(node, `the ${what} is empty`)
  if (/[\u0000-\u001f\u007f-\u009f]/.test(text)) {
    return yaml.mistake(node, `the ${what} ${shown(text)} holds a control character`)
  }
  if (Buffer.byteLength(text) > bytesMax) {
    return yaml.mistake(node, `the ${what} is longer than ${bytesMax} bytes`)
  }
  return text
}

function readResourceRules(yaml: YamlFile, node: unknown): ResourceRuleOption[] {
  const rules: ResourceRuleOption[] = []
  for (const item of yaml.items(node, 'permissions') ?? []) {
    const rule = { vhost: '/', configure: '', write: '', read: '' }
    const keys = ['vhost', 'configure', 'write', 'read'] as const
    for (const { key, value } of yaml.entries(item, 'a permission', keys) ?? []) {
      const text = yaml.text(value, key)
      if (text === null) continue
      rule[key as (typeof keys)[number]] = text
      if (key !== 'vhost' && !isRegularExpression(text)) {
        yaml.mistake(value, `${shown(text)} is no regular expression`)
      }
    }
    rules.push(rule)
  }
  return rules
}

function isRegularExpression(text: string): boolean {
  try {
    return new RegExp(text) instanceof RegExp
  } catch (error) {
    if (error instanceof SyntaxError) return false
    throw error
  }
}

const QUEUE_KEYS = ['name', 'vhost', 'durable', 'arguments', 'bindings']

export function readQueues(yaml: YamlFile, node: unknown): Placed<QueueOption>[] {
  const queues: Placed<QueueOption>[] = []
  for (const item of yaml.items(node, 'queues') ?? []) {
    const value = readQueue(yaml, item)
    if (value !== null) queues.push({ value, where: yaml.where(item) })
  }
  return queues
}

function readQueue(yaml: YamlFile, item: unknown): QueueOption | null {
  const entries = yaml.entries(item, 'a queue', QUEUE_KEYS)
  if (entries === null) return null
  let name: string | null = null
  let vhost: string | null = '/'
  let durable: boolean | null = true
  let args: QueueOption['arguments'] = {}
  let bindings: BindingOption[] = []
  for (const { key, value } of entries) {
    if (key === 'name') name = readQueueName(yaml, value)
    else if (key === 'vhost') vhost = readName(yaml, value, 'vhost')
    else if (key === 'durable') durable = yaml.boolean(value, 'durable')
    else if (key === 'arguments') args = readArguments(yaml, value)
    else bindings = readBindings(yaml, value)
  }
  if (!entries.some(entry => entry.key === 'name')) yaml.mistake(item, 'this queue has no name')
  if (name === null || vhost === null || durable === null) return null
  return { name, vhost, durable, arguments: args, bindings }
}

function readQueueName(yaml: YamlFile, node: unknown): string | null {
  const name = readName(yaml, node, 'name')
  if (name?.startsWith('amq.'))
    return yaml.mistake(node, 'names that begin with "amq." are reserved')
  return name
}

function readArguments(yaml: YamlFile, node: unknown): Record<string, string | number | boolean> {
  const args: Record<string, string | number | boolean> = {}
  for (const { key, value } of yaml.entries(node, 'arguments', null) ?? []) {
    const scalar = yaml.scalar(value, key)
    if (scalar === null) continue
    if (typeof scalar === 'number' && !Number.isSafeInteger(scalar)) {
      yaml.mistake(value, `${key} is ${scalar}, which is no whole number`)
    }
    Object.defineProperty(args, key, { value: scalar, enumerable: true })
  }
  return args
}

function readBindings(yaml: YamlFile, node: unknown): BindingOption[] {
  const bindings: BindingOption[] = []
  for (const item of yaml.items(node, 'bindings') ?? []) {
    if (yaml.isScalar(item)) {
      const filter = yaml.text(item, 'a binding')
      if (filter === null) continue
      if (isTopicFilter(filter)) bindings.push({ kind: 'filter', filter })
      else yaml.mistake(item, `${shown(filter)} is no topic filter`)
      continue
    }
    let exchange = ''
    let key = ''
    for (const entry of yaml.entries(item, 'a binding', ['exchange', 'key']) ?? []) {
      const text = yaml.text(entry.value, entry.key) ?? ''
      if (entry.key === 'exchange') exchange = text
      else key = text
    }
    if (exchange !== '') bindings.push({ kind: 'exchange', exchange, key })
    else yaml.mistake(item, 'this binding has no exchange')
  }
  return bindings
}
