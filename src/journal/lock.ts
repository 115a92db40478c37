/**
 * The lock file: at most one process uses a journal's folder.
 *
 * It holds pid, that process's start time, the boot id and the inode of its pid namespace. Another
 * boot, or the process gone: the lock is dead and taken over. Same boot but another pid namespace (two
 * containers on one volume): we cannot see that process, so we refuse and say how to override.
 * The file appears whole (written beside, then linked: a link fails if the name is there) and a dead
 * one is taken by a rename whose result is looked at, so that two starts cannot both take it. It is
 * never removed, only marked as released, and written over in place: a full disk needs no block for it.
 */
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { JournalError, systemCode } from './journal-error.ts'

export const LOCK_NAME = 'lock'
const FILE_BYTES = 256

/** Who holds a lock. `startTime` in clock ticks since boot; '' where the system does not tell. */
export interface LockHolder {
  pid: number
  startTime: string
  bootId: string
  pidNamespace: string
}

/** What the lock asks of the system; tests give their own. */
export interface ProcessTable {
  self(): Promise<LockHolder>
  /** Start time of a process of this namespace; null if it does not run; '' if that is not known. */
  startTimeOf(pid: number): Promise<string | null>
}

async function readOrEmpty(path: string): Promise<string> {
  try {
    return (await fs.readFile(path, 'utf8')).trim()
  } catch (error) {
    if (systemCode(error) !== '') return '' // no such thing on this system
    throw error
  }
}

/** Field 22 of /proc/<pid>/stat; the name in field 2 may hold blanks and parentheses. */
function parseStartTime(stat: string): string {
  return (
    stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .at(19) ?? ''
  )
}

/**
 * Of its first thread, which started with it. Not of `/proc/<pid>/stat`: an emulator that runs one
 * process (qemu-user) makes that file up for the process itself and shows everybody else's as it is.
 */
async function readStartTime(pid: number): Promise<string> {
  return parseStartTime(await readOrEmpty(`/proc/${pid}/task/${pid}/stat`))
}

export const realProcessTable: ProcessTable = {
  async self(): Promise<LockHolder> {
    let pidNamespace = ''
    try {
      pidNamespace = await fs.readlink('/proc/self/ns/pid')
    } catch (error) {
      if (systemCode(error) === '') throw error // else: no namespaces on this system
    }
    return {
      pid: process.pid,
      startTime: await readStartTime(process.pid),
      bootId: await readOrEmpty('/proc/sys/kernel/random/boot_id'),
      pidNamespace
    }
  },

  async startTimeOf(pid: number): Promise<string | null> {
    try {
      process.kill(pid, 0)
    } catch (error) {
      if (systemCode(error) === 'ESRCH') return null
      if (systemCode(error) !== 'EPERM') throw error // EPERM: it runs, as another user
    }
    return await readStartTime(pid)
  }
}

function parse(text: string): LockHolder | null {
  const fields = new Map<string, string>()
  for (const line of text.split('\n')) {
    const at = line.indexOf('=')
    if (at > 0) fields.set(line.slice(0, at), line.slice(at + 1))
  }
  const pid = Number(fields.get('pid') ?? Number.NaN)
  if (!Number.isInteger(pid) || pid <= 0) return null
  return {
    pid,
    startTime: fields.get('startTime') ?? '',
    bootId: fields.get('bootId') ?? '',
    pidNamespace: fields.get('pidNamespace') ?? ''
  }
}

function format(holder: LockHolder): string {
  return `pid=${holder.pid}\nstartTime=${holder.startTime}\nbootId=${holder.bootId}\npidNamespace=${holder.pidNamespace}\n`
}

/** Throws if the lock is alive, or may be. */
async function assertDead(
  holder: LockHolder,
  self: LockHolder,
  table: ProcessTable,
  path: string
): Promise<void> {
  if (holder.bootId !== self.bootId) return
  const fields = { path, pid: holder.pid }
  if (holder.pidNamespace !== self.pidNamespace) {
    throw new JournalError(
      'locked',
      `the data folder is locked by process ${holder.pid} of another container or pid namespace, ` +
        `which cannot be seen from here: if no such instance runs, remove ${path} and start again`,
      { ...fields, pidNamespace: holder.pidNamespace }
    )
  }
  const startTime = await table.startTimeOf(holder.pid)
  if (startTime === null) return
  if (startTime !== '' && holder.startTime !== '' && startTime !== holder.startTime) return
  throw new JournalError(
    'locked',
    `the data folder is in use by process ${holder.pid}: stop it, or choose another folder (${path})`,
    fields
  )
}

/** Takes a dead lock's file for our own; false when it was not the one that was looked at. */
async function takeFile(path: string, seen: string, mine: string): Promise<boolean> {
  try {
    await fs.rename(path, mine)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false // somebody else took it: look again
    throw error
  }
  if ((await readIfThere(mine)) === seen) return true
  await fs.rename(mine, path) // a new holder's
  return false
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await fs.readFile(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null
    throw error
  }
}

/** In place: the file's block is there already, so that a full disk can be started on. */
async function overwrite(path: string, text: string): Promise<void> {
  const handle = await fs.open(path, 'r+')
  try {
    await handle.write(text.padEnd(FILE_BYTES, ' '), 0)
  } finally {
    await handle.close()
  }
}

/** Locks the folder for this process; resolves with the function that unlocks it. */
export async function lockFolder(
  folder: string,
  table: ProcessTable = realProcessTable
): Promise<() => Promise<void>> {
  const path = join(folder, LOCK_NAME)
  const self = await table.self()
  const mine = `${path}.${self.pid}`
  await fs.rm(mine, { force: true })
  try {
    for (let tries = 0; tries < 5; tries++) {
      const seen = await readIfThere(path)
      if (seen === null) await fs.writeFile(mine, '', { mode: 0o600 })
      else {
        // What cannot be read was released, or torn by a crash of the machine: a living one is whole.
        const holder = parse(seen)
        if (holder !== null) await assertDead(holder, self, table, path)
        if (!(await takeFile(path, seen, mine))) continue
      }
      await overwrite(mine, format(self))
      if (await tryLink(mine, path)) return () => unlock(path, self)
    }
  } finally {
    await fs.rm(mine, { force: true })
  }
  throw new JournalError('locked', `another instance is starting in this data folder (${path})`, {
    path
  })
}

async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await fs.link(from, to)
    return true
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false
    throw error
  }
}

async function unlock(path: string, self: LockHolder): Promise<void> {
  const seen = await readIfThere(path)
  if (seen?.trimEnd() === format(self).trimEnd()) await overwrite(path, 'released\n')
}
