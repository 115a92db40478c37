/**
 * SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side: the client shows that it knows the password, the
 * server that it knows the user, and neither sends the password. No channel binding.
 *
 * Whether a user exists is not told: one that does not gets a salt that stays the same, and fails at the
 * end, as a wrong password does.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { SCRAM_ITERATIONS } from './password.ts'

const NONCE_BYTES = 18
const SALT_BYTES = 16
const KEY_BYTES = 32
/** A first message is a name of 256 bytes and a nonce; nothing that is longer is looked at. */
const MESSAGE_BYTES_MAX = 2_048

export interface ScramSecrets {
  readonly iterations: number
  readonly salt: Buffer
  readonly storedKey: Buffer
  readonly serverKey: Buffer
}

/** What a user's `scram` says; null: no SCRAM for this user. */
export function parseScram(stored: string): ScramSecrets | null {
  const [count, ...parts] = stored.split('$')
  const iterations = Number(count)
  const [salt, storedKey, serverKey] = parts.map(part => Buffer.from(part, 'base64'))
  if (!Number.isSafeInteger(iterations) || iterations < 1) return null
  if (salt === undefined || storedKey?.length !== KEY_BYTES) return null
  if (serverKey?.length !== KEY_BYTES) return null
  return { iterations, salt, storedKey, serverKey }
}

/** One exchange: `first`, then `final`. Null as an answer: what came is no such message. */
export class ScramServer {
  /** Known after `first`. */
  user: string
  readonly #secretsOf: (user: string) => ScramSecrets | null
  readonly #nonce: string
  readonly #disguise: Buffer
  #bare: string
  #header: string
  #serverFirst: string
  #secrets: ScramSecrets | null

  /** `disguise` is secret and the same for the life of the process: salts of users that do not exist. */
  constructor(
    secretsOf: (user: string) => ScramSecrets | null,
    random: (bytes: number) => Buffer,
    disguise: Buffer
  ) {
    this.user = ''
    this.#secretsOf = secretsOf
    this.#nonce = random(NONCE_BYTES).toString('base64')
    this.#disguise = disguise
    this.#bare = ''
    this.#header = ''
    this.#serverFirst = ''
    this.#secrets = null
  }

  /** client-first-message to server-first-message. */
  first(data: Uint8Array): Buffer | null {
    const text = textOf(data)
    // gs2-header (no channel binding asked for, no other identity than the user), then n=, r=.
    const parts = /^(([ny]),(?:a=([^,]+))?,)(n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/.exec(
      text ?? ''
    )
    if (parts === null) return null
    const user = unescapeName(parts[5]!)
    if (user === null || user === '') return null
    if (parts[3] !== undefined && unescapeName(parts[3]) !== user) return null
    this.user = user
    this.#header = parts[1]!
    this.#bare = parts[4]!
    this.#secrets = this.#secretsOf(user)
    const { iterations, salt } = this.#secrets ?? {
      iterations: SCRAM_ITERATIONS,
      salt: hmac(this.#disguise, user).subarray(0, SALT_BYTES)
    }
    this.#serverFirst = `r=${parts[6]}${this.#nonce},s=${salt.toString('base64')},i=${iterations}`
    return Buffer.from(this.#serverFirst)
  }

  /** client-final-message to server-final-message; null also when the proof is wrong. */
  final(data: Uint8Array): Buffer | null {
    const parts = /^(c=([^,]*),r=([^,]*)(?:,.*)?),p=([^,]*)$/.exec(textOf(data) ?? '')
    if (parts === null) return null
    const proof = Buffer.from(parts[4]!, 'base64')
    const nonce = /^r=([^,]*)/.exec(this.#serverFirst)?.[1]
    const isThisExchange =
      nonce === parts[3] && Buffer.from(parts[2]!, 'base64').toString() === this.#header
    const storedKey = this.#secrets?.storedKey ?? Buffer.alloc(KEY_BYTES)
    const message = `${this.#bare},${this.#serverFirst},${parts[1]}`
    const signature = hmac(storedKey, message)
    const clientKey = Buffer.alloc(KEY_BYTES)
    for (let i = 0; i < KEY_BYTES; i++) clientKey[i] = (proof[i] ?? 0) ^ signature[i]!
    const shown = createHash('sha256').update(clientKey).digest()
    const isRight = timingSafeEqual(shown, storedKey) && proof.length === KEY_BYTES
    if (!isRight || !isThisExchange || this.#secrets === null) return null
    const verifier = hmac(this.#secrets.serverKey, message)
    return Buffer.from(`v=${verifier.toString('base64')}`)
  }
}

/** UTF-8 of a bounded length; null: it is not. */
function textOf(data: Uint8Array): string | null {
  if (data.length > MESSAGE_BYTES_MAX) return null
  const text = Buffer.from(data).toString('utf8')
  return Buffer.from(text).equals(data) ? text : null
}

/** saslname: `=2C` is a comma, `=3D` an equals sign, and no other `=` may be there. */
function unescapeName(name: string): string | null {
  if (/=(?!2C|3D)/.test(name)) return null
  return name.replaceAll('=2C', ',').replaceAll('=3D', '=').normalize('NFKC')
}

function hmac(key: Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest()
}
