/**
 * libuv's pool has four threads, and a sync behind four busy ones once took seconds. What the broker
 * itself keeps busy is at most one look-up, one password hash and one cold read: with three threads
 * held, an acknowledgement must still come (journal.md §4).
 *
 * A thread is held by opening a pipe that nobody writes to.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, open as openWithThread, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Hasher, hashPassword } from '../../src/auth/password.ts'
import { createBroker, type EmbeddedBroker } from '../../src/index.ts'

let folder = ''
let broker: EmbeddedBroker
const held: string[] = []

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'motemq-pool-'))
  broker = createBroker({
    data: join(folder, 'data'),
    log: 'silent',
    queues: [{ name: 'kept', bindings: ['kept/#'] }]
  })
  await broker.start()
  await broker.publish('kept/first', 'x', { qos: 1 })
})
afterEach(async () => {
  for (const pipe of held.splice(0)) letGo(pipe)
  await broker.stop()
  rmSync(folder, { recursive: true, force: true })
})

function hold(count: number): void {
  for (let i = 0; i < count; i++) {
    const pipe = join(folder, `pipe-${held.length}`)
    execFileSync('mkfifo', [pipe])
    openWithThread(pipe, 'r', (error, descriptor) => {
      if (error === null) closeSync(descriptor)
    })
    held.push(pipe)
  }
}

/** Opening the other end lets the thread go. */
function letGo(pipe: string): void {
  closeSync(openSync(pipe, 'w'))
}

/** Whether a publish is durable before `ms` have passed. */
async function isDurableWithin(ms: number): Promise<boolean> {
  const published = broker.publish('kept/a', 'payload', { qos: 1 }).then(() => true)
  const late = new Promise<boolean>(resolve => setTimeout(resolve, ms, false))
  return Promise.race([published, late])
}

describe('with three of the four threads of the pool held', () => {
  it('a publish becomes durable, and with all four it waits until one is let go', async () => {
    hold(3)
    expect(await isDurableWithin(10_000)).toBe(true)
    hold(1)
    expect(await isDurableWithin(300)).toBe(false)
    letGo(held.pop()!)
    expect(await isDurableWithin(10_000)).toBe(true)
  })

  it('passwords are hashed all the same: their thread is their own', async () => {
    hold(4)
    const hasher = new Hasher()
    try {
      const { passwordHash } = await hashPassword(hasher, Buffer.from('secret'))
      expect(passwordHash).toMatch(/^scrypt\$/)
    } finally {
      await hasher.close()
    }
  })
})
