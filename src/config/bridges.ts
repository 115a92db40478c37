/** `bridges` of the config file: far sides that messages are carried on to. */
import { resolve } from 'node:path'
import { captureCount, holesOf, parseTemplate } from '../lib/template.ts'
import { shown } from './mistake.ts'
import type { BridgeOption, DeclaredOption, MapRuleOption } from './bridge-option.ts'
import { isTopicFilter, type Placed } from './structures.ts'
import { parseValue } from './values.ts'
import type { YamlFile } from './yaml-node.ts'

type Writable<T> = { -readonly [K in keyof T]: T[K] }

const NUMBERS = {
  window: ['count', 1_000, 1, 100_000],
  stallMs: ['ms', 30_000, 1_000, 86_400_000],
  retryMinMs: ['ms', 500, 10, 3_600_000],
  retryMaxMs: ['ms', 8_000, 10, 3_600_000],
  refusalsMax: ['count', 5, 1, 1_000],
  heartbeatSeconds: ['seconds', 15, 0, 3_600]
} as const
const LIMIT_NUMBERS = {
  messages: ['count', 0, 1, 2 ** 31],
  bytes: ['bytes', 0, 1, 2 ** 40],
  ageMs: ['ms', 0, 1_000, 2 ** 31 - 1]
} as const
const TEXTS = ['passwordFile', 'passwordEnv', 'vhost', 'queue', 'deadLetterQueue'] as const
const KEYS = [
  ...['name', 'url', 'topics', 'bindings', 'map', 'declare', 'tls', 'limits'],
  ...TEXTS,
  ...Object.keys(NUMBERS)
]
const EXCHANGE_TYPES = ['topic', 'direct', 'fanout', 'headers']
const NAMED_HOLES = ['topic', 'key', 'exchange']

export function readBridges(yaml: YamlFile, node: unknown): Placed<BridgeOption>[] {
  const found: Placed<BridgeOption>[] = []
  for (const item of yaml.items(node, 'bridges') ?? []) {
    const value = readBridge(yaml, item)
    if (value !== null) found.push({ value, where: yaml.where(item) })
  }
  return found
}

function emptyBridge(): Writable<BridgeOption> {
  return {
    name: '',
    url: '',
    password: '',
    passwordFile: '',
    passwordEnv: '',
    vhost: '/',
    topics: [],
    bindings: [],
    queue: '',
    deadLetterQueue: '',
    map: [],
    declare: { exchanges: [], queues: [], bindings: [] },
    tls: { ca: '', cert: '', key: '', servername: '', verify: true },
    limits: { messages: 0, bytes: 0, ageMs: 0, overflow: 'drop-oldest' },
    window: NUMBERS.window[1],
    stallMs: NUMBERS.stallMs[1],
    retryMinMs: NUMBERS.retryMinMs[1],
    retryMaxMs: NUMBERS.retryMaxMs[1],
    refusalsMax: NUMBERS.refusalsMax[1],
    heartbeatSeconds: NUMBERS.heartbeatSeconds[1]
  }
}

function readBridge(yaml: YamlFile, item: unknown): BridgeOption | null {
  const entries = yaml.entries(item, 'a bridge', KEYS)
  if (entries === null) return null
  const bridge = emptyBridge()
  for (const { key, value } of entries) {
    if (key === 'name') bridge.name = readName(yaml, value)
    else if (key === 'url') readUrl(yaml, value, bridge)
    else if (key === 'topics') bridge.topics = readFilters(yaml, value)
    else if (key === 'bindings') bridge.bindings = readBindings(yaml, value)
    else if (key === 'map') bridge.map = readMap(yaml, value)
    else if (key === 'declare') bridge.declare = readDeclare(yaml, value)
    else if (key === 'tls') bridge.tls = readTls(yaml, value)
    else if (key === 'limits') bridge.limits = readLimits(yaml, value)
    else if (key in NUMBERS) {
      const name = key as keyof typeof NUMBERS
      bridge[name] = readNumber(yaml, value, key, NUMBERS[name]) ?? bridge[name]
    } else {
      const text = key as (typeof TEXTS)[number]
      bridge[text] = yaml.text(value, key) ?? ''
    }
  }
  const has = (key: string) => entries.some(entry => entry.key === key)
  checkWhole(yaml, item, bridge, has)
  return bridge
}

function checkWhole(
  yaml: YamlFile,
  item: unknown,
  bridge: BridgeOption,
  has: (key: string) => boolean
): void {
  if (!has('name')) yaml.mistake(item, 'this bridge has no name')
  if (!has('url')) yaml.mistake(item, 'this bridge has no url, such as amqps://user@host/vhost')
  const reads = [has('topics') || has('bindings'), has('queue')]
  if (!reads.includes(true)) {
    yaml.mistake(item, 'this bridge carries nothing: it has neither topics, bindings nor queue')
  } else if (!reads.includes(false)) {
    yaml.mistake(item, 'a bridge has either topics and bindings, or a queue that is there already')
  }
  if (has('queue') && has('limits')) {
    yaml.mistake(item, 'limits are those of a queue of its own, and this bridge reads another one')
  }
  const passwords = [bridge.password, bridge.passwordFile, bridge.passwordEnv]
  if (passwords.filter(text => text !== '').length > 1) {
    yaml.mistake(item, 'its password stands in more than one of url, passwordFile, passwordEnv')
  }
  if (bridge.retryMinMs > bridge.retryMaxMs) {
    yaml.mistake(
      item,
      `retryMinMs (${bridge.retryMinMs}) is more than retryMaxMs (${bridge.retryMaxMs})`
    )
  }
}

function readName(yaml: YamlFile, node: unknown): string {
  const text = yaml.text(node, 'name')
  if (text === null) return ''
  if (/^[A-Za-z0-9_.-]{1,100}$/.test(text)) return text
  yaml.mistake(node, `the name ${shown(text)} is not of letters, digits, ".", "_" and "-" alone`)
  return ''
}

function readUrl(yaml: YamlFile, node: unknown, bridge: Writable<BridgeOption>): void {
  const text = yaml.text(node, 'url')
  if (text === null) return
  // The text is not shown: it may hold a password.
  let url: URL
  try {
    url = new URL(text)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    yaml.mistake(node, 'url is no URL such as amqps://user@host/vhost')
    return
  }
  if (url.protocol !== 'amqp:' && url.protocol !== 'amqps:') {
    yaml.mistake(node, `a bridge to ${shown(url.protocol)} is not known; known: amqp:, amqps:`)
    return
  }
  if (url.hostname === '') yaml.mistake(node, 'url names no host')
  if (url.pathname.slice(1).includes('/') || url.search !== '' || url.hash !== '') {
    yaml.mistake(node, 'url has more than user, host, port and vhost (a "/" in a vhost is %2F)')
  }
  try {
    decodeURIComponent(`${url.username}${url.pathname}`)
    bridge.password = decodeURIComponent(url.password)
  } catch (error) {
    if (!(error instanceof URIError)) throw error
    yaml.mistake(node, 'url has an escape that is none')
  }
  url.password = ''
  bridge.url = url.href
}

function readFilters(yaml: YamlFile, node: unknown): string[] {
  const filters: string[] = []
  for (const item of yaml.items(node, 'topics') ?? []) {
    const text = yaml.text(item, 'an entry of topics')
    if (text === null) continue
    if (isTopicFilter(text) && !text.startsWith('$')) filters.push(text)
    else yaml.mistake(item, `${shown(text)} is no topic filter that a bridge can carry`)
  }
  return filters
}

function readBindings(yaml: YamlFile, node: unknown): { exchange: string; key: string }[] {
  const bindings: { exchange: string; key: string }[] = []
  for (const item of yaml.items(node, 'bindings') ?? []) {
    const binding = { exchange: '', key: '' }
    for (const entry of yaml.entries(item, 'a binding', ['exchange', 'key']) ?? []) {
      binding[entry.key as 'exchange' | 'key'] = yaml.text(entry.value, entry.key) ?? ''
    }
    if (binding.exchange !== '') bindings.push(binding)
    else yaml.mistake(item, 'this binding has no exchange')
  }
  return bindings
}

function readMap(yaml: YamlFile, node: unknown): MapRuleOption[] {
  const rules: MapRuleOption[] = []
  for (const item of yaml.items(node, 'map') ?? []) {
    const rule = { filter: '', exchange: 'amq.topic', key: '{key}', headers: {} }
    const templates: [node: unknown, text: string][] = []
    const keys = ['filter', 'exchange', 'key', 'headers']
    for (const { key, value } of yaml.entries(item, 'a rule of map', keys) ?? []) {
      if (key === 'headers') {
        for (const header of yaml.entries(value, 'headers', null) ?? []) {
          const text = yaml.text(header.value, header.key)
          if (text === null) continue
          templates.push([header.value, text])
          Object.defineProperty(rule.headers, header.key, { value: text, enumerable: true })
        }
        continue
      }
      const text = yaml.text(value, key)
      if (text === null) continue
      rule[key as 'filter' | 'exchange' | 'key'] = text
      if (key !== 'filter') templates.push([value, text])
      else if (!isTopicFilter(text)) yaml.mistake(value, `${shown(text)} is no topic filter`)
    }
    if (rule.filter === '') yaml.mistake(item, 'this rule has no filter')
    const count = captureCount(rule.filter)
    for (const [place, text] of templates) checkTemplate(yaml, place, text, rule.filter, count)
    rules.push(rule)
  }
  return rules
}

function checkTemplate(
  yaml: YamlFile,
  node: unknown,
  text: string,
  filter: string,
  count: number
): void {
  const template = parseTemplate(text)
  if (typeof template === 'string') {
    yaml.mistake(node, `${shown(text)}: ${template}`)
    return
  }
  for (const name of holesOf(template)) {
    if (NAMED_HOLES.includes(name) || Number(name) <= count) continue
    const has = count === 0 ? 'no wildcards' : count === 1 ? 'one wildcard' : `${count} wildcards`
    const why = /^\d/.test(name)
      ? `the filter ${shown(filter)} has ${has}`
      : `known are ${NAMED_HOLES.map(known => `{${known}}`).join(', ')} and {1}, {2}, ...`
    yaml.mistake(node, `${shown(text)}: nothing fills {${name}}; ${why}`)
  }
}

function readDeclare(yaml: YamlFile, node: unknown): BridgeOption['declare'] {
  const declare: Writable<BridgeOption['declare']> = { exchanges: [], queues: [], bindings: [] }
  const keys = ['exchanges', 'queues', 'bindings']
  for (const { key, value } of yaml.entries(node, 'declare', keys) ?? []) {
    if (key === 'bindings') declare.bindings = readFarBindings(yaml, value)
    else declare[key as 'exchanges' | 'queues'] = readDeclared(yaml, value, key)
  }
  return declare
}

function readDeclared(yaml: YamlFile, node: unknown, what: string): DeclaredOption[] {
  const things: DeclaredOption[] = []
  const keys = what === 'exchanges' ? ['name', 'type', 'arguments'] : ['name', 'arguments']
  for (const item of yaml.items(node, what) ?? []) {
    const thing = { name: '', type: 'topic', arguments: {} }
    for (const { key, value } of yaml.entries(item, `an entry of ${what}`, keys) ?? []) {
      if (key === 'arguments') thing.arguments = readArguments(yaml, value)
      else thing[key as 'name' | 'type'] = yaml.text(value, key) ?? ''
    }
    if (thing.name === '') yaml.mistake(item, `this entry of ${what} has no name`)
    if (!EXCHANGE_TYPES.includes(thing.type) && !thing.type.startsWith('x-')) {
      yaml.mistake(item, `${shown(thing.type)} is not one of ${EXCHANGE_TYPES.join(', ')}`)
    }
    things.push(thing)
  }
  return things
}

function readArguments(yaml: YamlFile, node: unknown): Record<string, string | number | boolean> {
  const args: Record<string, string | number | boolean> = {}
  for (const { key, value } of yaml.entries(node, 'arguments', null) ?? []) {
    const scalar = yaml.scalar(value, key)
    if (scalar !== null) Object.defineProperty(args, key, { value: scalar, enumerable: true })
  }
  return args
}

function readFarBindings(yaml: YamlFile, node: unknown) {
  const bindings: { queue: string; exchange: string; key: string }[] = []
  for (const item of yaml.items(node, 'bindings') ?? []) {
    const binding = { queue: '', exchange: '', key: '' }
    const keys = ['queue', 'exchange', 'key'] as const
    for (const { key, value } of yaml.entries(item, 'a binding', keys) ?? []) {
      binding[key as (typeof keys)[number]] = yaml.text(value, key) ?? ''
    }
    if (binding.queue === '' || binding.exchange === '') {
      yaml.mistake(item, 'this binding has no queue or no exchange')
    }
    bindings.push(binding)
  }
  return bindings
}

function readTls(yaml: YamlFile, node: unknown): BridgeOption['tls'] {
  const tls = { ca: '', cert: '', key: '', servername: '', verify: true }
  for (const { key, value } of yaml.entries(node, 'tls', Object.keys(tls)) ?? []) {
    if (key === 'verify') tls.verify = yaml.boolean(value, key) ?? true
    else tls[key as 'ca' | 'cert' | 'key' | 'servername'] = yaml.text(value, key) ?? ''
  }
  if ((tls.cert === '') !== (tls.key === '')) yaml.mistake(node, 'cert and key go together')
  return tls
}

function readLimits(yaml: YamlFile, node: unknown): BridgeOption['limits'] {
  const limits: Writable<BridgeOption['limits']> = { ...emptyBridge().limits }
  const keys = [...Object.keys(LIMIT_NUMBERS), 'overflow']
  for (const { key, value } of yaml.entries(node, 'limits', keys) ?? []) {
    if (key === 'overflow') {
      const text = yaml.text(value, key)
      if (text === 'drop-oldest' || text === 'refuse') limits.overflow = text
      else if (text !== null)
        yaml.mistake(value, `${shown(text)} is not one of drop-oldest, refuse`)
      continue
    }
    const name = key as keyof typeof LIMIT_NUMBERS
    limits[name] = readNumber(yaml, value, key, LIMIT_NUMBERS[name]) ?? 0
  }
  return limits
}

function readNumber(
  yaml: YamlFile,
  node: unknown,
  key: string,
  [kind, , min, max]: readonly ['count' | 'bytes' | 'ms' | 'seconds', number, number, number]
): number | null {
  const raw = yaml.scalar(node, key)
  if (raw === null) return null
  const parsed = parseValue({ kind, min, max, choices: [] }, raw)
  if (parsed.ok) return parsed.value as number
  return yaml.mistake(node, `${key}: ${parsed.why}`)
}

/** Paths are seen from the directory of the process, as everywhere in a config file. */
export function bridgeWithPaths(bridge: BridgeOption, directory: string): BridgeOption {
  const at = (path: string) => (path === '' ? '' : resolve(directory, path))
  const { ca, cert, key } = bridge.tls
  return {
    ...bridge,
    passwordFile: at(bridge.passwordFile),
    tls: { ...bridge.tls, ca: at(ca), cert: at(cert), key: at(key) }
  }
}
