/**
 * The command line of `motemq pub` and `motemq sub`, which is mosquitto_pub's and mosquitto_sub's of version
 * 2.0: the same flags, the same files of default options, the same mistakes refused.
 */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { SocksProxy } from '../client/socks.ts'
import { parseTarget } from '../client/target.ts'
import {
  type ClientCommand,
  type ClientFlags,
  defaultFlags,
  FlagMistake
} from './mosquitto-config.ts'
import { readProperty } from './mosquitto-properties.ts'
import { checkFlags } from './mosquitto-rules.ts'

interface Flag {
  readonly names: readonly string[]
  /** The commands that know it. */
  readonly of: 'both' | ClientCommand
  /** Null: it has no value. */
  readonly value: string | null
  readonly set: (flags: ClientFlags, value: string) => void
}

const both = 'both'

function number(value: string): number {
  const parsed = Number.parseInt(value, 10)
  return Number.isNaN(parsed) ? 0 : parsed
}

function setBody(flags: ClientFlags, body: ClientFlags['body']): void {
  if (flags.body !== null) throw new FlagMistake('Only one type of message can be sent at once.')
  flags.body = body
}

function within(value: string, min: number, max: number, mistake: string): number {
  const parsed = number(value)
  if (parsed < min || parsed > max) throw new FlagMistake(mistake)
  return parsed
}

const VERSIONS: Readonly<Record<string, 3 | 4 | 5>> = {
  mqttv31: 3,
  31: 3,
  mqttv311: 4,
  311: 4,
  mqttv5: 5,
  5: 5
}

function setVersion(flags: ClientFlags, value: string): void {
  const version = VERSIONS[value]
  if (version === undefined) throw new FlagMistake('Invalid protocol version argument given.')
  flags.version = version
}

function setExpiry(flags: ClientFlags, value: string): void {
  if (value === '∞') {
    flags.sessionExpirySeconds = 0xffff_ffff
    return
  }
  if (!/^[+-]?\d+$/.test(value)) throw new FlagMistake('session-expiry-interval not a number.')
  const seconds = Number(value)
  if (seconds < -1 || seconds > 0xffff_ffff) {
    throw new FlagMistake('session-expiry-interval out of range.')
  }
  flags.sessionExpirySeconds = seconds === -1 ? 0xffff_ffff : seconds
}

function setRandomFilter(flags: ClientFlags, value: string): void {
  const chance = Number.parseFloat(value)
  if (!(chance >= 0.1)) {
    throw new FlagMistake('--random-filter chance must be between 0.1-100.0')
  }
  flags.randomFilter = chance
}

function setUrl(flags: ClientFlags, value: string): void {
  const parsed = parseTarget(value)
  if (typeof parsed === 'string') throw new FlagMistake(`${parsed}.`)
  flags.target = parsed.target
  flags.username = parsed.username ?? flags.username
  flags.password = parsed.password ?? flags.password
  if (parsed.topic !== '') flags.topics.push(parsed.topic)
}

function setProxy(flags: ClientFlags, value: string): void {
  const parts = /^socks5h:\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^:/]+)(?::(\d+))?\/?$/.exec(value)
  if (parts === null) throw new FlagMistake(`Unsupported proxy protocol: ${value}`)
  const decode = (text: string | undefined): string | null =>
    text === undefined ? null : decodeURIComponent(text)
  const proxy: SocksProxy = {
    username: decode(parts[1]),
    password: decode(parts[2]),
    host: parts[3]!,
    port: Number(parts[4] ?? 1080)
  }
  flags.proxy = proxy
}

function setDelay(flags: ClientFlags, value: string): void {
  const seconds = Number.parseFloat(value)
  if (!(seconds >= 0)) throw new FlagMistake('--repeat-delay argument must be >=0.0.')
  flags.repeatDelayMs = seconds * 1_000
}

const text = (
  names: readonly string[],
  what: string,
  set: (flags: ClientFlags, value: string) => void,
  of: Flag['of'] = both
): Flag => ({ names, of, value: what, set })
const word = (
  names: readonly string[],
  set: (flags: ClientFlags) => void,
  of: Flag['of'] = both
): Flag => ({ names, of, value: null, set })

const CONNECTION_FLAGS: readonly Flag[] = [
  text(['-A'], 'address', (f, v) => (f.bindAddress = v)),
  word(['-c', '--disable-clean-session'], f => (f.cleanStart = false)),
  word(['-d', '--debug'], f => (f.isDebug = true)),
  text(['-h', '--host'], 'host', (f, v) => (f.host = v)),
  text(['-i', '--id'], 'id', (f, v) => (f.id = v)),
  text(['-I', '--id-prefix'], 'prefix', (f, v) => (f.idPrefix = v)),
  text(['-k', '--keepalive'], 'keepalive', (f, v) => {
    const mistake = 'Invalid keepalive given, it must be between 5 and 65535 inclusive.'
    f.keepaliveSeconds = within(v, 5, 65_535, mistake)
  }),
  text(['-L', '--url'], 'URL', setUrl),
  text(['-M', '--max-inflight'], 'number', (f, v) => {
    const mistake = 'Maximum inflight messages must be greater than 0.'
    f.inflightMax = within(v, 1, 65_535, mistake)
  }),
  word(['--nodelay'], () => undefined),
  text(['-p', '--port'], 'port', (f, v) => {
    f.port = within(v, 1, 65_535, `Invalid port given: ${number(v)}`)
  }),
  text(['-P', '--pw'], 'password', (f, v) => (f.password = v)),
  text(['--proxy'], 'proxy url', setProxy),
  text(['-q', '--qos'], 'QoS', (f, v) => {
    f.qos = within(v, 0, 2, `Invalid QoS given: ${number(v)}`)
  }),
  word(['--quiet'], f => (f.isQuiet = true)),
  word(['-S'], f => (f.usesSrv = true)),
  text(['-t', '--topic'], 'topic', (f, v) => f.topics.push(v)),
  text(['-u', '--username'], 'username', (f, v) => (f.username = v)),
  text(['--unix'], 'socket path', (f, v) => {
    f.target = { transport: 'unix', host: '', port: 0, path: v }
  }),
  text(['-V', '--protocol-version'], 'version', setVersion),
  text(['-x'], 'session expiry interval', setExpiry)
]

const SECURITY_FLAGS: readonly Flag[] = [
  text(['--cafile'], 'file', (f, v) => (f.tls.cafile = v)),
  text(['--capath'], 'directory', (f, v) => (f.tls.capath = v)),
  text(['--cert'], 'file', (f, v) => (f.tls.cert = v)),
  text(['--key'], 'file', (f, v) => (f.tls.key = v)),
  text(['--ciphers'], 'ciphers', (f, v) => (f.tls.ciphers = v)),
  word(['--insecure'], f => (f.tls.insecure = true)),
  text(['--keyform'], 'keyform', (f, v) => (f.tls.keyform = v)),
  text(['--psk'], 'key', (f, v) => (f.tls.psk = v)),
  text(['--psk-identity'], 'identity', (f, v) => (f.tls.pskIdentity = v)),
  text(['--tls-alpn'], 'protocol', (f, v) => (f.tls.alpn = v)),
  text(['--tls-engine'], 'engine_id', (f, v) => (f.tls.engine = v)),
  text(['--tls-engine-kpass-sha1'], 'kpass sha', (f, v) => (f.tls.engine = v)),
  word(['--tls-use-os-certs'], f => (f.tls.usesSystem = true)),
  text(['--tls-version'], 'version', (f, v) => (f.tls.version = v)),
  text(['--will-payload'], 'payload', (f, v) => (f.willPayload = v)),
  text(['--will-qos'], 'QoS', (f, v) => {
    f.willQos = within(v, 0, 2, `Invalid will QoS ${number(v)}.`)
  }),
  word(['--will-retain'], f => (f.willRetain = true)),
  text(['--will-topic'], 'topic', (f, v) => (f.willTopic = v))
]

const PUB_FLAGS: readonly Flag[] = [
  text(['-f', '--file'], 'file', (f, v) => setBody(f, { kind: 'file', text: v }), 'pub'),
  word(['-l', '--stdin-line'], f => setBody(f, { kind: 'lines', text: '' }), 'pub'),
  text(['-m', '--message'], 'message', (f, v) => setBody(f, { kind: 'text', text: v }), 'pub'),
  word(['-n', '--null-message'], f => setBody(f, { kind: 'text', text: '' }), 'pub'),
  word(['-r', '--retain'], f => (f.retain = true), 'pub'),
  text(
    ['--repeat'],
    'count',
    (f, v) => {
      f.repeat = within(v, 1, 2 ** 31 - 1, '--repeat argument must be >0.')
    },
    'pub'
  ),
  text(['--repeat-delay'], 'time', setDelay, 'pub'),
  word(['-s', '--stdin-file'], f => setBody(f, { kind: 'stdin', text: '' }), 'pub')
]

const SUB_FLAGS: readonly Flag[] = [
  text(
    ['-C'],
    'count',
    (f, v) => {
      f.count = within(v, 1, 2 ** 31 - 1, `Invalid message count "${number(v)}".`)
    },
    'sub'
  ),
  word(['-E'], f => (f.endsWhenSubscribed = true), 'sub'),
  text(['-F'], 'format', (f, v) => (f.format = v), 'sub'),
  word(['-N'], f => (f.hasNewline = false), 'sub'),
  word(['--pretty'], f => (f.isPretty = true), 'sub'),
  text(['--random-filter'], 'chance', setRandomFilter, 'sub'),
  word(['-R'], f => (f.showsRetained = false), 'sub'),
  word(['--remove-retained'], f => (f.removesRetained = true), 'sub'),
  word(['--retain-as-published'], f => (f.retainAsPublished = true), 'sub'),
  word(['--retained-only'], f => (f.retainedOnly = true), 'sub'),
  text(['-T', '--filter-out'], 'topic', (f, v) => f.filterOut.push(v), 'sub'),
  text(['-U', '--unsubscribe'], 'topic', (f, v) => f.unsubscribe.push(v), 'sub'),
  word(['-v', '--verbose'], f => (f.isVerbose = true), 'sub'),
  text(
    ['-W'],
    'timeout',
    (f, v) => {
      f.timeoutSeconds = within(v, 1, 2 ** 31 - 1, `Invalid timeout "${number(v)}".`)
    },
    'sub'
  )
]

const FLAGS = new Map<string, Flag>()
for (const flag of [...CONNECTION_FLAGS, ...SECURITY_FLAGS, ...PUB_FLAGS, ...SUB_FLAGS]) {
  for (const name of flag.names) FLAGS.set(name, flag)
}

/** Reads the file of default options, then the words. Throws a `FlagMistake`. */
export function readClientFlags(
  command: ClientCommand,
  words: readonly string[],
  environment: Readonly<Record<string, string | undefined>>
): ClientFlags {
  const flags = defaultFlags(command)
  for (const line of defaultLines(command, environment)) readWords(flags, line)
  const { body } = flags
  // What the file says is a default: a message of the command line takes its place.
  flags.body = null
  readWords(flags, words)
  flags.body ??= body
  const url = environment['MOTEMQ_URL'] ?? ''
  if (url !== '' && flags.target === null && flags.host === null && flags.port === 0) {
    setUrl(flags, url)
  }
  checkFlags(flags)
  return flags
}

function readWords(flags: ClientFlags, words: readonly string[]): void {
  for (let i = 0; i < words.length; i++) {
    const name = words[i]!
    if (name === '-D' || name === '--property') {
      i += readProperty(flags, words.slice(i + 1))
      continue
    }
    const flag = FLAGS.get(name)
    if (flag === undefined || (flag.of !== both && flag.of !== flags.command)) {
      throw new FlagMistake(`Unknown option '${name}'.`)
    }
    if (flag.value === null) {
      flag.set(flags, '')
      continue
    }
    const value = words[++i]
    if (value === undefined) {
      throw new FlagMistake(`${name} argument given but no ${flag.value} specified.`)
    }
    flag.set(flags, value)
  }
}

/** `-option value` a line; `#` begins a comment. */
function defaultLines(
  command: ClientCommand,
  environment: Readonly<Record<string, string | undefined>>
): string[][] {
  const folder = environment['XDG_CONFIG_HOME'] ?? join(environment['HOME'] ?? homedir(), '.config')
  let content: string
  try {
    content = readFileSync(join(folder, `mosquitto_${command}`), 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Nobody has to have one.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return []
    throw error
  }
  const lines = content.split('\n').map(line => line.replace(/\r$/, ''))
  return lines
    .filter(line => line !== '' && !line.startsWith('#'))
    .map(line => {
      const space = line.indexOf(' ')
      if (space < 0) return [line]
      const value = line.slice(space + 1).replace(/^ +/, '')
      const name = line.slice(0, space)
      return name === '-D' || name === '--property' ? [name, ...value.split(/ +/)] : [name, value]
    })
}
