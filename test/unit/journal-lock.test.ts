import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../../src/journal/disk.ts'
import { LOCK_NAME, type LockHolder, lockFolder, realProcessTable } from '../../src/journal/lock.ts'
import { openToy } from '../support/sim-disk-store.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'motemq-lock-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true, force: true })
})

const ME: LockHolder = { pid: 100, startTime: '5000', bootId: 'boot-a', pidNamespace: 'pid:[1]' }

function table(self: Partial<LockHolder>, running: Record<number, string> = {}) {
  return {
    self: async () => ({ ...ME, ...self }),
    startTimeOf: async (pid: number) => running[pid] ?? null
  }
}

test('a second instance is refused, naming the process', async () => {
  await lockFolder(folder, table({}))
  const second = lockFolder(folder, table({ pid: 101 }, { 100: '5000' }))
  await expect(second).rejects.toMatchObject({ code: 'locked', fields: { pid: 100 } })
  expect(readdirSync(folder)).toEqual([LOCK_NAME])
})

test('the lock of a process that is gone is taken over', async () => {
  await lockFolder(folder, table({}))
  await lockFolder(folder, table({ pid: 101 }))
  expect(readFileSync(join(folder, LOCK_NAME), 'utf8')).toContain('pid=101\n')
})

test('the lock of a process whose number another one has now is taken over', async () => {
  await lockFolder(folder, table({}))
  await lockFolder(folder, table({ pid: 101 }, { 100: '7777' }))
})

test('the lock of another boot is taken over', async () => {
  await lockFolder(folder, table({}))
  await lockFolder(
    folder,
    table({ pid: 101, bootId: 'boot-b', pidNamespace: 'pid:[2]' }, { 100: '5000' })
  )
})

test('the lock of another pid namespace is refused, with the file to remove', async () => {
  await lockFolder(folder, table({}))
  const second = lockFolder(folder, table({ pid: 7, pidNamespace: 'pid:[2]' }))
  await expect(second).rejects.toMatchObject({
    code: 'locked',
    message: expect.stringContaining(`remove ${join(folder, LOCK_NAME)}`)
  })
})

test.each(['', '\0\0\0\0', 'pid=', 'released\n'])(
  'a lock file that says %j is taken over',
  async text => {
    writeFileSync(join(folder, LOCK_NAME), text)
    await lockFolder(folder, table({}))
    expect(readdirSync(folder)).toEqual([LOCK_NAME])
  }
)

test('a released lock is free at once, and a release that comes late takes nobody else’s', async () => {
  const release = await lockFolder(folder, table({}))
  await release()
  await lockFolder(folder, table({ pid: 101 }, { 100: '5000' }))
  await release()
  await expect(lockFolder(folder, table({ pid: 102 }, { 101: '5000' }))).rejects.toMatchObject({
    code: 'locked'
  })
})

test('of two that start together over a dead lock one gets it', async () => {
  for (let i = 0; i < 20; i++) {
    writeFileSync(
      join(folder, LOCK_NAME),
      'pid=99\nstartTime=1\nbootId=boot-a\npidNamespace=pid:[1]\n'
    )
    const running = { 100: '5000', 101: '5000' }
    const both = await Promise.allSettled([
      lockFolder(folder, table({}, running)),
      lockFolder(folder, table({ pid: 101 }, running))
    ])
    expect(both.filter(each => each.status === 'fulfilled').length).toBeLessThanOrEqual(1)
    rmSync(join(folder, LOCK_NAME), { force: true })
  }
})

test('this process is seen to run, with its start time', async () => {
  const self = await realProcessTable.self()
  expect(await realProcessTable.startTimeOf(process.pid)).toBe(self.startTime)
  expect(await realProcessTable.startTimeOf(2 ** 22 + 1)).toBeNull()
})

test('a journal works on the real disk, refuses a second instance, and forgives a linked identity', async () => {
  const data = join(folder, 'data')
  const first = await openToy(realDisk, { folder: data })
  first.store.put(1, 100)
  first.store.put(2, 200_000)
  await first.journal.flush()
  await expect(openToy(realDisk, { folder: data })).rejects.toMatchObject({ code: 'locked' })
  await first.journal.close()
  rmSync(join(data, 'motemq.store'))
  symlinkSync('/dev/null', join(data, 'motemq.store'))
  const second = await openToy(realDisk, { folder: data })
  expect(await second.store.read(1)).toBe('right')
  expect(await second.store.read(2)).toBe('right')
  await second.journal.close()
})
