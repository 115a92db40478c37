/** Who is who in the tests of bad inputs. */
import type { AuthenticationResult, Credentials } from '../../src/auth/authenticator.ts'
import { Principal, type TopicRule } from '../../src/core/principal.ts'

const RULES: readonly TopicRule[] = [
  { effect: 'deny', access: 'readwrite', filter: 'secret/#' },
  { effect: 'allow', access: 'readwrite', filter: '#' }
]
/** Of `secret/` only one topic is denied. */
const ONE_SECRET: readonly TopicRule[] = [
  { effect: 'deny', access: 'readwrite', filter: 'secret/a' },
  { effect: 'allow', access: 'readwrite', filter: '#' }
]
const OF_ITSELF: readonly TopicRule[] = [
  { effect: 'allow', access: 'readwrite', filter: 'own/%c/#' }
]

const BINARY = Buffer.from([0, 0xff, 0])

const TOPICS = new Map([
  ['bob', RULES],
  ['carl', ONE_SECRET],
  ['dora', OF_ITSELF]
])

/**
 * Anonymous may do everything; `bob` nothing with `secret/#`, `carl` nothing with `secret/a`, `dora` only what has her
 * client id in it; `mallory` is refused, `busy` has to wait, `binary` has a password that is no text.
 */
export function asUser({ username, password }: Credentials): Promise<AuthenticationResult> {
  const name = username ?? ''
  if (name === 'mallory') return Promise.resolve({ ok: false, reason: 'bad-credentials' })
  if (name === 'busy') return Promise.resolve({ ok: false, reason: 'busy' })
  if (name === 'binary' && (password === null || Buffer.compare(password, BINARY) !== 0)) {
    return Promise.resolve({ ok: false, reason: 'bad-credentials' })
  }
  const rules = TOPICS.get(name)
  const principal = new Principal(name, [], '/', [], rules ?? [], rules === undefined)
  return Promise.resolve({ ok: true, principal })
}
