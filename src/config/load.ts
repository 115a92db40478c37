/**
 * From flags, environment and files to options. A flag goes before a variable, that before a file, that
 * before the default. Of several files (the config file, then `conf.d/*.yaml` beside it by name) the
 * later one wins for single values; lists add up. Every mistake is gathered; none is half applied.
 */
import { existsSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { suggest } from '../lib/suggest.ts'
import type { BridgeOption } from './bridge-option.ts'
import { bridgeWithPaths, readBridges } from './bridges.ts'
import {
  defaultListeners,
  isOrigin,
  type ListenerOption,
  parseListenerUrl
} from './listener-url.ts'
import { Mistakes, shown } from './mistake.ts'
import {
  type FirstUser,
  NAMED_OPTIONS,
  type NamedOption,
  Option,
  OPTIONS,
  type OptionGroup,
  type Options,
  OTHER_VARIABLES
} from './options.ts'
import {
  type Placed,
  readListeners,
  readQueues,
  readTexts,
  readTopicRules,
  readUsers,
  type QueueOption,
  type UserOption
} from './structures.ts'
import { withPaths } from './tls.ts'
import { parsePacketLimit } from './packet-limits.ts'
import { parseValue } from './values.ts'
import type { YamlFile } from './yaml-node.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface LoadInput {
  /** `--config FILE`; null: look at the usual places. */
  readonly config: string | null
  /** By option key (`log.level`): what the flag said; a list for `listeners` and lists of texts. */
  readonly flags: ReadonlyMap<string, string | readonly string[]>
  readonly environment: Environment
  /** Where `./motemq.yaml` and relative paths are looked for. */
  readonly directory: string
}

export interface LoadedOptions {
  readonly options: Options
  /** By option key, where its value came from: `default`, `flag --data`, `MOTEMQ_DATA`, `file:line`. */
  readonly sources: ReadonlyMap<string, string>
  /** The files that were read. */
  readonly files: readonly string[]
  /** Oddities that do not keep it from starting. */
  readonly warnings: readonly string[]
}

const SYSTEM_CONFIG = '/etc/motemq/motemq.yaml'

interface Found {
  value: unknown
  source: string
}

/** @throws ConfigError with every mistake found */
export async function loadOptions(input: LoadInput): Promise<LoadedOptions> {
  const mistakes = new Mistakes()
  const warnings: string[] = []
  const found = new Map<string, Found>()
  for (const named of NAMED_OPTIONS) {
    found.set(named.key, { value: defaultOf(named, input), source: 'default' })
  }
  const files = await findFiles(input, mistakes)
  for (const file of files) await readConfigFile(file, input.directory, found, mistakes)
  checkTwice(found, mistakes)
  readEnvironment(input.environment, found, mistakes, warnings)
  readFlags(input.flags, found, mistakes)
  const firstUser = readFirstUser(input.environment, mistakes)
  checkTexts(found, mistakes)
  checkTogether(found, mistakes)
  mistakes.throwIfAny()
  const options = assemble(OPTIONS, '', found) as unknown as Options
  options.firstUser = firstUser
  options.data = resolve(input.directory, options.data)
  options.tls = withPaths(options.tls, input.directory)
  options.listeners = options.listeners.map(listener =>
    listener.tls === null
      ? listener
      : { ...listener, tls: withPaths(listener.tls, input.directory) }
  )
  options.bridges = options.bridges.map(bridge => bridgeWithPaths(bridge, input.directory))
  const sources = new Map([...found].map(([key, entry]) => [key, entry.source]))
  return { options, sources, files, warnings }
}

function defaultOf(named: NamedOption, input: LoadInput): unknown {
  if (named.key === 'listeners') return defaultListeners()
  if (named.key === 'data') {
    // systemd names the folder that it made for StateDirectory=.
    const state = input.environment['STATE_DIRECTORY']?.split(':', 1)[0]
    if (state !== undefined && state !== '') return state
    const isContainer = existsSync('/.dockerenv') || existsSync('/run/.containerenv')
    if (isContainer && existsSync('/data')) return '/data'
  }
  return named.option.defaultValue
}

async function findFiles(input: LoadInput, mistakes: Mistakes): Promise<string[]> {
  const asked = input.config ?? (input.environment['MOTEMQ_CONFIG'] || null)
  let main: string | null = asked
  if (asked === null) {
    const usual = ['motemq.yaml', SYSTEM_CONFIG]
    main = usual.find(file => existsSync(resolve(input.directory, file))) ?? null
  } else if (!existsSync(resolve(input.directory, asked))) {
    mistakes.add(input.config === null ? 'MOTEMQ_CONFIG' : '--config', `there is no file ${asked}`)
    return []
  }
  if (main === null) return []
  const folder = join(dirname(main), 'conf.d')
  const files = [main]
  try {
    const names = await readdir(resolve(input.directory, folder))
    files.push(
      ...names
        .filter(isConfigName)
        .sort()
        .map(name => join(folder, name))
    )
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR') mistakes.add(folder, `cannot be read (${code})`)
  }
  return files
}

function isConfigName(name: string): boolean {
  return (name.endsWith('.yaml') || name.endsWith('.yml')) && !name.startsWith('.')
}

async function readConfigFile(
  file: string,
  directory: string,
  found: Map<string, Found>,
  mistakes: Mistakes
): Promise<void> {
  const path = resolve(directory, file)
  // Imported here: who has no file does without the YAML parser.
  const { FILE_BYTES_MAX, YamlFile } = await import('./yaml-node.ts')
  let bytes: Uint8Array
  try {
    const { size } = await stat(path)
    if (size > FILE_BYTES_MAX) {
      mistakes.add(file, `has ${size} bytes; a config file has at most ${FILE_BYTES_MAX}`)
      return
    }
    bytes = await readFile(path)
  } catch (error) {
    mistakes.add(file, `cannot be read (${(error as NodeJS.ErrnoException).code})`)
    return
  }
  const yaml = YamlFile.parse(file, bytes, mistakes)
  if (yaml !== null && yaml.root !== null) readGroup(yaml, yaml.root, OPTIONS, '', found, mistakes)
}

function readGroup(
  yaml: YamlFile,
  node: unknown,
  group: OptionGroup,
  prefix: string,
  found: Map<string, Found>,
  mistakes: Mistakes
): void {
  const name = prefix === '' ? 'the file' : prefix.slice(0, -1)
  for (const { key, value } of yaml.entries(node, name, Object.keys(group)) ?? []) {
    const entry = group[key]!
    const path = prefix + key
    if (entry instanceof Option) readOption(yaml, value, entry, path, found, mistakes)
    else readGroup(yaml, value, entry, `${path}.`, found, mistakes)
  }
}

function readOption(
  yaml: YamlFile,
  node: unknown,
  option: Option<unknown>,
  path: string,
  found: Map<string, Found>,
  mistakes: Mistakes
): void {
  const source = yaml.where(node)
  const list = readList(yaml, node, option, path)
  if (list !== null) {
    const before = found.get(path)!
    const value = before.source === 'default' ? list : [...(before.value as unknown[]), ...list]
    found.set(path, { value, source })
    return
  }
  const raw = yaml.scalar(node, path)
  if (raw === null) return
  const parsed = parseValue(option, raw)
  if (parsed.ok) found.set(path, { value: parsed.value, source })
  else mistakes.add(source, `${path}: ${parsed.why}`)
}

/** The items of a list option, still with their places; null for an option that is a single value. */
function readList(
  yaml: YamlFile,
  node: unknown,
  option: Option<unknown>,
  path: string
): readonly unknown[] | null {
  switch (option.kind) {
    case 'listeners':
      return readListeners(yaml, node)
    case 'users':
      return readUsers(yaml, node)
    case 'topics':
      return readTopicRules(yaml, node)
    case 'queues':
      return readQueues(yaml, node)
    case 'bridges':
      return readBridges(yaml, node)
    case 'texts':
      return readTexts(yaml, node, path)
    default:
      return null
  }
}

/** Looks for what stands twice in the lists of the files, then takes the places off. */
function checkTwice(found: Map<string, Found>, mistakes: Mistakes): void {
  const identify: Readonly<Record<string, (value: never) => string | null>> = {
    listeners: identityOf,
    users: (user: UserOption) => `user ${shown(user.name)}`,
    queues: (queue: QueueOption) => `queue ${shown(queue.name)} of vhost ${shown(queue.vhost)}`,
    topics: () => null,
    bridges: (bridge: BridgeOption) => `bridge ${shown(bridge.name)}`
  }
  for (const [key, idOf] of Object.entries(identify)) {
    const entry = found.get(key)!
    if (entry.source === 'default') continue
    const first = new Map<string, string>()
    const placed = entry.value as Placed<never>[]
    for (const { value, where } of placed) {
      const id = idOf(value)
      if (id === null) continue
      const before = first.get(id)
      if (before !== undefined) mistakes.add(where, `${id} stands here again, first in ${before}`)
      else first.set(id, where)
    }
    entry.value = placed.map(item => item.value)
  }
}

function readEnvironment(
  environment: Environment,
  found: Map<string, Found>,
  mistakes: Mistakes,
  warnings: string[]
): void {
  const known = new Map(NAMED_OPTIONS.filter(o => o.variable !== '').map(o => [o.variable, o]))
  for (const [variable, raw] of Object.entries(environment)) {
    if (!variable.startsWith('MOTEMQ_') || raw === undefined || raw === '') continue
    const named = known.get(variable)
    if (named !== undefined) takeText(named, splitList(named, raw), variable, found, mistakes)
    else if (isStray(variable)) {
      // Not a mistake: Kubernetes and others set variables of this prefix for a service of our name.
      const near = suggest(variable, known.keys())
      const hint = near === null ? '' : `; did you mean ${near}?`
      warnings.push(`the variable ${shown(variable)} is not known and not used${hint}`)
    }
  }
}

function isStray(variable: string): boolean {
  const others: readonly string[] = OTHER_VARIABLES
  return !others.includes(variable) && !/^MOTEMQ_(TEST_|PORT|SERVICE_)/.test(variable)
}

function splitList(named: NamedOption, raw: string): string | readonly string[] {
  const isList = named.option.kind === 'listeners' || named.option.kind === 'texts'
  return isList ? raw.split(/[\s,]+/).filter(part => part !== '') : raw
}

function readFlags(flags: LoadInput['flags'], found: Map<string, Found>, mistakes: Mistakes): void {
  for (const named of NAMED_OPTIONS) {
    const raw = flags.get(named.key)
    if (raw !== undefined) takeText(named, raw, named.flag, found, mistakes)
  }
}

/** Takes what a flag or a variable says. */
function takeText(
  named: NamedOption,
  raw: string | readonly string[],
  where: string,
  found: Map<string, Found>,
  mistakes: Mistakes
): void {
  const source = where.startsWith('--') ? `flag ${where}` : `variable ${where}`
  if (named.option.kind === 'texts') {
    found.set(named.key, { value: typeof raw === 'string' ? [raw] : raw, source })
    return
  }
  if (named.option.kind === 'listeners') {
    const listeners: ListenerOption[] = []
    for (const url of typeof raw === 'string' ? [raw] : raw) {
      const parsed = parseListenerUrl(url)
      if (!parsed.ok) mistakes.add(where, parsed.why)
      for (const listener of parsed.ok ? parsed.listeners : []) {
        const isTwice =
          identityOf(listener) !== null && listeners.some(known => known.url === listener.url)
        if (isTwice) mistakes.add(where, `${listener.url} is listed twice`)
        else listeners.push(listener)
      }
    }
    found.set(named.key, { value: listeners, source })
    return
  }
  const parsed = parseValue(named.option, raw)
  if (parsed.ok) found.set(named.key, { value: parsed.value, source })
  else mistakes.add(where, parsed.why)
}

function readFirstUser(environment: Environment, mistakes: Mistakes): FirstUser | null {
  const name = environment['MOTEMQ_USER'] ?? ''
  const password = environment['MOTEMQ_PASSWORD'] ?? ''
  if (name === '' && password === '') return null
  if (name === '') mistakes.add('MOTEMQ_PASSWORD', 'is set without MOTEMQ_USER')
  else if (password === '') mistakes.add('MOTEMQ_USER', 'is set without MOTEMQ_PASSWORD')
  else if (/[\u0000-\u001f\u007f-\u009f]/.test(name) || Buffer.byteLength(name) > 256) {
    mistakes.add('MOTEMQ_USER', 'is no user name: at most 256 bytes, no control characters')
  }
  return { name, password }
}

/** Why a text of a list cannot be taken; null: it can. */
const TEXTS: Readonly<Record<string, (text: string) => string | null>> = {
  'websocket.origins': text =>
    isOrigin(text) ? null : `${shown(text)} is no origin such as https://example.org`,
  'mqtt.packetLimits': text => {
    const parsed = parsePacketLimit(text)
    return parsed.ok ? null : parsed.why
  }
}

function checkTexts(found: Map<string, Found>, mistakes: Mistakes): void {
  for (const [key, whyNot] of Object.entries(TEXTS)) {
    const { value, source } = found.get(key)!
    for (const text of value as readonly string[]) {
      const why = whyNot(text)
      if (why !== null) mistakes.add(source.replace(/^(flag|variable) /, ''), `${key}: ${why}`)
    }
  }
}

/** What is right alone and wrong together. */
function checkTogether(found: Map<string, Found>, mistakes: Mistakes): void {
  const order = [
    ['disk.redFreeBytes', 'disk.yellowFreeBytes'],
    ['limits.preLoginBytesMax', 'limits.preLoginTotalBytesMax'],
    ['limits.wildcardSubscriptionsMax', 'limits.subscriptionsMax']
  ] as const
  for (const [lowKey, highKey] of order) {
    const low = found.get(lowKey)!
    const high = found.get(highKey)!
    // 0 of the disk's levels stands for what depends on its size.
    if (high.value === 0 || (low.value as number) <= (high.value as number)) continue
    const where = low.source === 'default' ? high.source : low.source
    mistakes.add(
      where.replace(/^(flag|variable) /, ''),
      `${lowKey} (${low.value}) is more than ${highKey} (${high.value})`
    )
  }
}

/** What may be listened on once only; null: a free port. */
function identityOf(listener: ListenerOption): string | null {
  return listener.port === 0 && listener.unixPath === '' ? null : listener.url
}

function assemble(group: OptionGroup, prefix: string, found: Map<string, Found>): object {
  return Object.fromEntries(
    Object.entries(group).map(([key, entry]) => {
      const path = prefix + key
      const value =
        entry instanceof Option ? found.get(path)!.value : assemble(entry, `${path}.`, found)
      return [key, value]
    })
  )
}
