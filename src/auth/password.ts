/**
 * Passwords: made into hashes, and checked against them.
 *
 * All hashing is done one at a time in one worker thread, started when it is first needed: the thread
 * pool of the process stays free for the journal's syncs, the event loop for everybody else. At most 64
 * wait for it; more are refused as `busy` instead of piling up. A password that was found right is
 * remembered (as an HMAC under a key of this process), so that a thousand devices that come back after
 * a cut of the network cost a thousand HMACs, not a thousand hashes of 32 MiB each.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import { isRabbitPassword, parseRabbitHash } from './rabbit-hash.ts'

const SCRYPT_N = 2 ** 15
const SCRYPT_R = 8
const SCRYPT_P = 1
const HASH_BYTES = 32
const SALT_BYTES = 16
/** The stored key must not be the weak way around scrypt; RFC 7677 asks for at least 4,096. */
/** PBKDF2 rounds of the secrets that are made now; a stored user says its own. */
export const SCRAM_ITERATIONS = 100_000
const SCRYPT_BYTES_MAX = 64 * 1024 * 1024
const WAITING_MAX = 64
const REMEMBERED_MAX = 10_000
/** Nobody's hash has this password: it is checked for users that do not exist, to take the same time. */
const DUMMY_HASH = `scrypt$${SCRYPT_N}$${SCRYPT_R}$${SCRYPT_P}$${'A'.repeat(22)}==$${'A'.repeat(43)}=`

interface ScryptJob {
  kind: 'scrypt'
  password: Uint8Array
  salt: Uint8Array
  n: number
  r: number
  p: number
  bytes: number
}
interface PbkdfJob {
  kind: 'pbkdf2'
  password: Uint8Array
  salt: Uint8Array
  iterations: number
}
type Job = ScryptJob | PbkdfJob

/** As text, so that it runs the same from the sources under test and from the build. */
const WORKER_SOURCE = `
const { parentPort } = require('node:worker_threads')
const { pbkdf2Sync, scryptSync } = require('node:crypto')
parentPort.on('message', job => {
  const key = job.kind === 'scrypt'
    ? scryptSync(job.password, job.salt, job.bytes,
        { N: job.n, r: job.r, p: job.p, maxmem: 256 * job.n * job.r })
    : pbkdf2Sync(job.password, job.salt, job.iterations, 32, 'sha256')
  parentPort.postMessage(key)
})
`

interface Waiting {
  job: Job
  resolve: (key: Buffer) => void
  reject: (error: Error) => void
}

/** Too many passwords wait to be hashed: try later. */
export class HasherBusyError extends Error {
  constructor() {
    super('too many passwords wait to be checked')
    this.name = 'HasherBusyError'
  }
}

/** The one worker thread. */
export class Hasher {
  #worker: Worker | null = null
  #current: Waiting | null = null
  readonly #waiting: Waiting[] = []
  /** Hashes computed. */
  count = 0

  /** Rejects with `HasherBusyError` when 64 wait already. */
  run(job: Job): Promise<Buffer> {
    if (this.#waiting.length >= WAITING_MAX) return Promise.reject(new HasherBusyError())
    return new Promise((resolve, reject) => {
      this.#waiting.push({ job, resolve, reject })
      this.#next()
    })
  }

  get waitingCount(): number {
    return this.#waiting.length
  }

  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = null
    this.#failAll(new Error('the hasher is closed'))
    await worker?.terminate()
  }

  #next(): void {
    if (this.#current !== null) return
    const next = this.#waiting.shift()
    if (next === undefined) {
      // An idle worker does not keep a finished program alive.
      this.#worker?.unref()
      return
    }
    this.#current = next
    const worker = this.#start()
    worker.ref()
    worker.postMessage(next.job)
  }

  #start(): Worker {
    if (this.#worker !== null) return this.#worker
    const worker = new Worker(WORKER_SOURCE, { eval: true, execArgv: [], env: {} })
    this.#worker = worker
    worker.on('message', (key: Uint8Array) => {
      const done = this.#current
      this.#current = null
      this.count++
      done?.resolve(Buffer.from(key))
      this.#next()
    })
    // Out of memory, say: those who wait hear of it, the next one starts a new thread.
    worker.on('error', error => {
      if (this.#worker !== worker) return
      this.#worker = null
      this.#failAll(error)
    })
    return worker
  }

  #failAll(error: Error): void {
    const failed = this.#waiting.splice(0)
    if (this.#current !== null) failed.unshift(this.#current)
    this.#current = null
    for (const waiting of failed) waiting.reject(error)
  }
}

/** The secrets kept for a user with this password. `scram` is '' when the password is no UTF-8 text. */
export async function hashPassword(
  hasher: Hasher,
  password: Uint8Array
): Promise<{ passwordHash: string; scram: string }> {
  const salt = randomBytes(SALT_BYTES)
  const hash = await hasher.run({
    kind: 'scrypt',
    password,
    salt,
    n: SCRYPT_N,
    r: SCRYPT_R,
    p: SCRYPT_P,
    bytes: HASH_BYTES
  })
  const cost = `${SCRYPT_N}$${SCRYPT_R}$${SCRYPT_P}`
  const passwordHash = `scrypt$${cost}$${salt.toString('base64')}$${hash.toString('base64')}`
  return { passwordHash, scram: await makeScram(hasher, password) }
}

/** RFC 5802 §3: what a server keeps for SCRAM-SHA-256; it cannot log in with it. */
async function makeScram(hasher: Hasher, password: Uint8Array): Promise<string> {
  const text = Buffer.from(password).toString('utf8')
  if (!Buffer.from(text).equals(password)) return ''
  const salt = randomBytes(SALT_BYTES)
  const salted = await hasher.run({
    kind: 'pbkdf2',
    // NFKC is the part of SASLprep that matters for passwords that people type.
    password: Buffer.from(text.normalize('NFKC')),
    salt,
    iterations: SCRAM_ITERATIONS
  })
  const hmac = (data: string) => createHmac('sha256', salted).update(data).digest()
  const clientKey = hmac('Client Key')
  const storedKey = createHash('sha256').update(clientKey).digest()
  const serverKey = hmac('Server Key')
  return [
    SCRAM_ITERATIONS,
    salt.toString('base64'),
    storedKey.toString('base64'),
    serverKey.toString('base64')
  ].join('$')
}

/** A hash in parts; null when it is none, or would cost more than a check may. */
export function parseHash(
  text: string
): { n: number; r: number; p: number; salt: Buffer; hash: Buffer } | null {
  const parts = text.split('$')
  if (parts.length !== 6 || parts[0] !== 'scrypt') return null
  const [n, r, p] = [Number(parts[1]), Number(parts[2]), Number(parts[3])]
  const isPowerOfTwo = Number.isInteger(n) && n >= 2 && (n & (n - 1)) === 0
  if (!isPowerOfTwo || !Number.isInteger(r) || !Number.isInteger(p)) return null
  if (r < 1 || p < 1 || p > 4 || 128 * n * r > SCRYPT_BYTES_MAX) return null
  const salt = Buffer.from(parts[4]!, 'base64')
  const hash = Buffer.from(parts[5]!, 'base64')
  return salt.length >= 8 && hash.length >= 16 ? { n, r, p, salt, hash } : null
}

/** Whether a text is a hash that passwords can be checked against. */
export function isPasswordHash(text: string): boolean {
  return parseHash(text) !== null || parseRabbitHash(text) !== null
}

/** Checks passwords; remembers those that were right. */
export class PasswordChecker {
  readonly #hasher: Hasher
  readonly #key = randomBytes(32)
  readonly #remembered = new Map<string, Buffer>()
  /** The same password of the same user, asked while it is being hashed, is hashed once. */
  readonly #underWay = new Map<string, Promise<boolean>>()

  constructor(hasher: Hasher) {
    this.#hasher = hasher
  }

  /** Whether this password was found right for this hash before. Costs an HMAC. */
  isRemembered(user: string, passwordHash: string, password: Uint8Array): boolean {
    const known = this.#remembered.get(user)
    return known !== undefined && timingSafeEqual(known, this.#digest(passwordHash, password))
  }

  /** Whether it is being checked right now. */
  isUnderWay(user: string, passwordHash: string, password: Uint8Array): boolean {
    return this.#underWay.has(this.#flightKey(user, passwordHash, password))
  }

  /**
   * Whether the password is the user's. `passwordHash` '' stands for a user that does not exist or has
   * no password: always false, after the same work. Rejects with `HasherBusyError`.
   */
  check(user: string, passwordHash: string, password: Uint8Array): Promise<boolean> {
    const key = this.#flightKey(user, passwordHash, password)
    const flight = this.#underWay.get(key)
    if (flight !== undefined) return flight
    const check = this.#hashAndCompare(user, passwordHash, password).finally(() => {
      this.#underWay.delete(key)
    })
    this.#underWay.set(key, check)
    return check
  }

  forget(user: string): void {
    this.#remembered.delete(user)
  }

  async #hashAndCompare(
    user: string,
    passwordHash: string,
    password: Uint8Array
  ): Promise<boolean> {
    const real = passwordHash === '' ? null : parseHash(passwordHash)
    const { n, r, p, salt, hash } = real ?? parseHash(DUMMY_HASH)!
    const bytes = hash.length
    const job: Job = { kind: 'scrypt', password, salt, n, r, p, bytes }
    const isEqual = timingSafeEqual(await this.#hasher.run(job), hash)
    // RabbitMQ's hash is cheap: the time says nothing of which users came from there.
    const rabbit = parseRabbitHash(passwordHash)
    const isRight = rabbit === null ? isEqual && real !== null : isRabbitPassword(rabbit, password)
    if (!isRight) return false
    if (this.#remembered.size >= REMEMBERED_MAX && !this.#remembered.has(user)) {
      for (const oldest of this.#remembered.keys()) {
        this.#remembered.delete(oldest)
        break
      }
    }
    this.#remembered.set(user, this.#digest(passwordHash, password))
    return true
  }

  #flightKey(user: string, passwordHash: string, password: Uint8Array): string {
    return `${this.#digest(passwordHash, password).toString('base64')}${user}`
  }

  #digest(passwordHash: string, password: Uint8Array): Buffer {
    return createHmac('sha256', this.#key).update(`${passwordHash}\0`).update(password).digest()
  }
}
