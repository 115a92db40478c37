/**
 * RabbitMQ's password hashes, as its definitions bring them: `rabbit-sha256$` or `rabbit-sha512$`, then base64 of
 * four bytes of salt and the hash of salt and password.
 */
import { createHash, timingSafeEqual } from 'node:crypto'

const SALT_BYTES = 4
const HASH_BYTES = { sha256: 32, sha512: 64 } as const

interface RabbitHash {
  readonly algorithm: keyof typeof HASH_BYTES
  readonly salt: Buffer
  readonly hash: Buffer
}

/** Null when it is none. */
export function parseRabbitHash(text: string): RabbitHash | null {
  const match = /^rabbit-(sha256|sha512)\$([A-Za-z0-9+/]+={0,2})$/.exec(text)
  if (match === null) return null
  const algorithm = match[1] as RabbitHash['algorithm']
  const bytes = Buffer.from(match[2]!, 'base64')
  if (bytes.length !== SALT_BYTES + HASH_BYTES[algorithm]) return null
  return { algorithm, salt: bytes.subarray(0, SALT_BYTES), hash: bytes.subarray(SALT_BYTES) }
}

export function isRabbitPassword(kept: RabbitHash, password: Uint8Array): boolean {
  const { algorithm, salt, hash } = kept
  return timingSafeEqual(createHash(algorithm).update(salt).update(password).digest(), hash)
}
