/**
 * `node --import` of this file lets Motemq run on a Node before 20.15, whose `zlib` has no `crc32`: whoever else imports
 * `node:zlib` gets this module in its place. For tests on processors for which npm has no newer Node: in the field the
 * answer is a newer Node.
 */
import { register } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import zlib from 'node:zlib'

const TABLE = new Uint32Array(256)
for (let byte = 0; byte < 256; byte++) {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1
  TABLE[byte] = value
}

/**
 * @param {string | Uint8Array} data
 * @param {number} [start] the checksum of what goes before
 */
export function crc32(data, start = 0) {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data
  let value = ~start
  for (let i = 0; i < bytes.length; i++) value = TABLE[(value ^ bytes[i]) & 255] ^ (value >>> 8)
  return ~value >>> 0
}

export default { ...zlib, crc32 }

/** The hook of Node's module loader. */
export async function resolve(specifier, context, nextResolve) {
  if (specifier !== 'node:zlib' || context.parentURL === import.meta.url) {
    return await nextResolve(specifier, context)
  }
  return { url: import.meta.url, shortCircuit: true }
}

// The thread of the hooks loads this file too, and must not register it once more.
if (isMainThread) register(import.meta.url)
