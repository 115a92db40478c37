/** Which flags of `motemq pub` and `motemq sub` go together: as Mosquitto's programs have it. */
import { DEFAULT_LIMITS } from '../core/limits.ts'
import { isValidFilter } from '../core/topic.ts'
import { ID } from '../client/properties.ts'
import { type ClientFlags, FlagMistake } from './mosquitto-config.ts'

const INFINITE = 0xffff_ffff
const SECURE_PORT = 8883
/** Filters are judged by the specification; the broker has limits of its own. */
const LIMITS = { ...DEFAULT_LIMITS, topicSeparatorsMax: 65_535 }

/** Throws a `FlagMistake`; completes what follows from other flags. */
export function checkFlags(flags: ClientFlags): void {
  checkIdentity(flags)
  checkWill(flags)
  checkTls(flags)
  if (flags.command === 'pub') checkPub(flags)
  else checkSub(flags)
  addExpiry(flags)
}

/** -c: for ever, unless -x says how long. */
function addExpiry(flags: ClientFlags): void {
  const { connect } = flags.properties
  if (flags.version !== 5 || connect.some(({ id }) => id === ID.sessionExpiry)) return
  if (flags.sessionExpirySeconds < 0) flags.sessionExpirySeconds = flags.cleanStart ? 0 : INFINITE
  const value = flags.sessionExpirySeconds
  if (value === INFINITE && flags.id === null && flags.idPrefix === null) {
    throw new FlagMistake(
      'You must provide a client id if you are using an infinite session expiry interval.'
    )
  }
  if (value > 0) connect.push({ id: ID.sessionExpiry, value })
}

function checkIdentity(flags: ClientFlags): void {
  if (flags.id !== null && flags.idPrefix !== null) {
    throw new FlagMistake('-i and -I argument cannot be used together.')
  }
  if (flags.idPrefix !== null) flags.id = `${flags.idPrefix}${process.pid}`
  if (!flags.cleanStart && flags.id === null) {
    throw new FlagMistake('You must provide a client id if you are using the -c option.')
  }
  if (flags.password !== null && flags.username === null && flags.version !== 5) {
    throw new FlagMistake('Problem setting username and/or password.')
  }
}

function checkWill(flags: ClientFlags): void {
  const { willTopic } = flags
  if (willTopic === null) {
    if (flags.willPayload !== null)
      throw new FlagMistake('Will payload given, but no will topic given.')
    if (flags.willRetain) throw new FlagMistake('Will retain given, but no will topic given.')
    return
  }
  if (!isTopic(willTopic)) {
    throw new FlagMistake(`Invalid will topic '${willTopic}', does it contain '+' or '#'?`)
  }
}

function checkTls(flags: ClientFlags): void {
  const { tls } = flags
  const hasCertificates = tls.cafile !== null || tls.capath !== null
  if ((tls.cert === null) !== (tls.key === null)) {
    throw new FlagMistake('Both certfile and keyfile must be provided if one of them is set.')
  }
  if (tls.keyform !== null && tls.keyform !== 'pem') {
    throw new FlagMistake('only keys in PEM files are supported.')
  }
  if (tls.engine !== null) throw new FlagMistake('TLS engines are not supported.')
  if (hasCertificates && tls.psk !== null) {
    throw new FlagMistake('Only one of --psk or --cafile/--capath may be used at once.')
  }
  if (tls.psk !== null && tls.pskIdentity === null) {
    throw new FlagMistake('--psk-identity required if --psk used.')
  }
  if (tls.psk !== null && !/^([0-9a-f]{2})+$/i.test(tls.psk)) {
    throw new FlagMistake('--psk is no key in hexadecimal.')
  }
  const isPlainPort = !hasCertificates && tls.psk === null && flags.port === SECURE_PORT
  if (isPlainPort) tls.usesSystem = true
}

function checkPub(flags: ClientFlags): void {
  const topic = flags.topics.at(-1)
  if (topic === undefined || flags.body === null) {
    const isUrlAlone = topic === undefined && flags.target !== null
    throw new FlagMistake(
      isUrlAlone
        ? 'Invalid URL for -L argument specified - topic missing.'
        : 'Both topic and message must be supplied.'
    )
  }
  if (!isTopic(topic)) {
    throw new FlagMistake(`Invalid publish topic '${topic}', does it contain '+' or '#'?`)
  }
}

function checkSub(flags: ClientFlags): void {
  if (flags.topics.length === 0) throw new FlagMistake('You must specify a topic to subscribe to.')
  const filters = [
    ['subscription', flags.topics],
    ['unsubscribe', flags.unsubscribe],
    ['filter', flags.filterOut]
  ] as const
  for (const [what, list] of filters) {
    for (const filter of list) {
      if (isValidFilter(filter, LIMITS)) continue
      throw new FlagMistake(
        `Invalid ${what} topic '${filter}', are all '+' and '#' wildcards correct?`
      )
    }
  }
  if (!flags.showsRetained && flags.retainedOnly) {
    throw new FlagMistake("Combining '-R' and '--retained-only' makes no sense.")
  }
}

function isTopic(topic: string): boolean {
  const bytes = Buffer.byteLength(topic)
  return bytes > 0 && bytes <= 65_535 && !/[+#\0]/.test(topic)
}
