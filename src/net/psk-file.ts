/** Pre-shared keys in Mosquitto's form: a line `identity:key` each, the key in hexadecimal. */
import { printable } from '../lib/printable.ts'

export interface PskFile {
  readonly keys: ReadonlyMap<string, Buffer>
  readonly mistakes: readonly string[]
  readonly warnings: readonly string[]
}

/** Node's bound. */
const IDENTITY_BYTES_MAX = 128
/** OpenSSL's bound. */
const KEY_BYTES_MAX = 256
/** Shorter ones can be found by trying. */
const KEY_BYTES_SAFE = 16

export function readPskFile(file: string, text: string): PskFile {
  const keys = new Map<string, Buffer>()
  const mistakes: string[] = []
  const warnings: string[] = []
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw
    if (line === '' || line.startsWith('#')) continue
    const where = `${file}:${i + 1}`
    // The key has no colon; the identity may.
    const colon = line.lastIndexOf(':')
    const identity = line.slice(0, Math.max(0, colon))
    const hex = line.slice(colon + 1).trim()
    const why = whyWrong(identity, hex)
    if (why !== null) mistakes.push(`${where}: ${why}`)
    else if (keys.has(identity)) {
      mistakes.push(`${where}: the identity ${printable(identity)} stands here again`)
    } else {
      const key = Buffer.from(hex, 'hex')
      keys.set(identity, key)
      if (key.length < KEY_BYTES_SAFE) {
        warnings.push(
          `${where}: the key of ${printable(identity)} has ${key.length} bytes; take at least ${KEY_BYTES_SAFE}, of: openssl rand -hex 32`
        )
      }
    }
  }
  if (keys.size === 0 && mistakes.length === 0) warnings.push(`${file} holds no key`)
  return { keys, mistakes, warnings }
}

function whyWrong(identity: string, hex: string): string | null {
  // The line is not shown: it holds a secret.
  if (identity === '') return 'a line is `identity:key`, the key in hexadecimal'
  if (Buffer.byteLength(identity) > IDENTITY_BYTES_MAX) {
    return `the identity is longer than ${IDENTITY_BYTES_MAX} bytes`
  }
  if (/[\u0000-\u001f\u007f]/.test(identity)) return 'the identity holds a control character'
  if (!/^(?:[0-9a-fA-F]{2})+$/.test(hex))
    return 'the key is not written in pairs of hexadecimal digits'
  if (hex.length > 2 * KEY_BYTES_MAX) return `the key is longer than ${KEY_BYTES_MAX} bytes`
  return null
}
