/** A write and its sync as one call: when it is used, and what it does not cover. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { realDisk } from '../../src/journal/disk.ts'
import { AWAITED, LAZY } from '../../src/journal/journal.ts'
import { openToy, type ToyStore, turns } from '../support/sim-disk-store.ts'
import { faultsAfter } from '../support/sim-disk-trace.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

const folder = mkdtempSync(join(tmpdir(), 'motemq-disk-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** What the journal calls of its files, in order. */
function watched(seed: number): { disk: SimulatedDisk; calls: string[] } {
  const disk = new SimulatedDisk({ seed })
  const calls: string[] = []
  const open = disk.open.bind(disk)
  disk.open = async (path, mode) => {
    const file = await open(path, mode)
    const { write, writeSynced, datasync } = file
    const note = <T>(name: string, run: () => Promise<T>) => {
      calls.push(name)
      return run()
    }
    file.write = (buffers, at) => note('write', () => write.call(file, buffers, at))
    file.writeSynced = (buffers, at) => note('both', () => writeSynced.call(file, buffers, at))
    file.datasync = () => note('sync', () => datasync.call(file))
    return file
  }
  return { disk, calls }
}

/** It has a segment, and the spares are made. */
async function settled(store: ToyStore): Promise<void> {
  store.put(100, 100, AWAITED)
  await turns(200)
}

describe('what is waited for', () => {
  it('is written and synced in one call when nothing else waits for a sync', async () => {
    const { disk, calls } = watched(1)
    const { store, journal } = await openToy(disk)
    await settled(store)
    calls.length = 0
    store.put(1, 100, AWAITED)
    await turns()
    expect(store.durable).toBe(journal.ticket)
    expect(calls).toEqual(['both'])
    await journal.close()
  })

  it('takes along what was written before it and not synced', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const { disk, calls } = watched(seed)
      const { store, journal, timers } = await openToy(disk)
      await settled(store)
      calls.length = 0
      store.put(1, 100, LAZY)
      timers.advance(60)
      await turns()
      expect(calls).toEqual(['write'])
      store.put(2, 100, AWAITED)
      await turns()
      expect(store.durable).toBe(journal.ticket)
      expect(calls).toEqual(['write', 'write', 'sync'])
      expect(await faultsAfter(store, disk.crash()), `seed ${seed}`).toEqual([])
    }
  })
})

describe('a synced write on a real disk', () => {
  it('is there for other readers, and closes what it opened', async () => {
    const path = join(folder, 'file')
    const made = await realDisk.open(path, 'create')
    await made.write([Buffer.alloc(16_384)], 0)
    await made.close()
    const before = readdirSync('/proc/self/fd').length
    const file = await realDisk.open(path, 'write')
    expect(await file.writeSynced([Buffer.from('ab'), Buffer.from('cd')], 4096)).toBe(4)
    expect(await file.writeSynced([Buffer.from('ef')], 4100)).toBe(2)
    const read = Buffer.alloc(8)
    expect(await file.read(read, 0, 8, 4096)).toBe(8)
    expect(read.toString('latin1')).toBe('abcdef\0\0')
    await file.close()
    expect(readdirSync('/proc/self/fd').length).toBe(before)
  })

  it('makes no file anew whose name is gone', async () => {
    const path = join(folder, 'other')
    const file = await realDisk.open(path, 'create')
    await realDisk.unlink(path)
    // It is written and synced in two calls instead.
    expect(await file.writeSynced([Buffer.from('x')], 0)).toBe(1)
    expect(readdirSync(folder)).not.toContain('other')
    await file.close()
  })
})
