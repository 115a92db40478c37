/**
 * The file that makes a folder a store of ours: one line with the format's version and the store's 8
 * random bytes. A folder that is not empty and has none is somebody else's and is left alone. A damaged
 * one is written anew from the superblock or a batch, which carry the same bytes; data is never given up for it.
 * Its name says whose records lie here, a broker's or an Aedes persistence's: it outlives damage to the line.
 */
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Disk } from './disk.ts'
import { JournalError, systemCode } from './journal-error.ts'
import { STORE_BYTES } from './layout.ts'
import { LOCK_NAME } from './lock.ts'
import type { StoreKind } from './options.ts'
import { QUARANTINE_NAME } from './quarantine.ts'
import { OWN_FILE_NAME, SLOT_NAME } from './slots.ts'
import { SUPERBLOCK_NAME } from './superblock.ts'

export const FORMAT = 1
const LINE = /^motemq (?:store|persistence) (\d+) ([0-9a-f]{16}) ([0-9a-f]{8})\n$/
const BYTES_MAX = 256
const OWNERS: Readonly<Record<StoreKind, string>> = {
  store: 'a broker',
  persistence: 'an Aedes persistence (motemq/persistence)'
}

function identityName(kind: StoreKind): string {
  return `motemq.${kind}`
}

function line(kind: StoreKind, store: Buffer): string {
  const text = `motemq ${kind} ${FORMAT} ${store.toString('hex')}`
  return `${text} ${crc32(text).toString(16).padStart(8, '0')}\n`
}

/** null: there is none. 'damaged': it says nothing. Throws if a newer program made the store. */
export async function readIdentity(
  disk: Disk,
  folder: string,
  kind: StoreKind
): Promise<Buffer | 'damaged' | null> {
  const path = join(folder, identityName(kind))
  const buffer = Buffer.alloc(BYTES_MAX)
  let bytes = 0
  try {
    const file = await disk.open(path, 'read')
    try {
      bytes = await file.read(buffer, 0, BYTES_MAX, 0)
    } finally {
      await file.close()
    }
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT') return null
    if (code === 'ELOOP' || code === 'EISDIR' || code === 'EIO') return 'damaged'
    throw error
  }
  const text = buffer.toString('latin1', 0, bytes)
  const version = /^motemq (?:store|persistence) (\d{1,9}) /.exec(text)
  if (version !== null && Number(version[1]) > FORMAT) {
    throw new JournalError(
      'newer-format',
      `the data folder was written by a newer version (format ${version[1]}, this one knows ${FORMAT}): ${folder}`,
      { folder, format: Number(version[1]) }
    )
  }
  const found = LINE.exec(text)
  if (found === null) return 'damaged'
  const store = Buffer.from(found[2]!, 'hex')
  return line(kind, store) === text && store.length === STORE_BYTES ? store : 'damaged'
}

/** Writes the identity, over a damaged one if there is one. */
export async function writeIdentity(
  disk: Disk,
  folder: string,
  kind: StoreKind,
  store: Buffer
): Promise<void> {
  const path = join(folder, identityName(kind))
  try {
    await disk.unlink(path)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error // the usual case: a new folder
  }
  const file = await disk.open(path, 'create')
  try {
    const bytes = Buffer.from(line(kind, store), 'latin1')
    if ((await file.write([bytes], 0)) !== bytes.length) {
      throw new JournalError('not-writable', `no room for ${path}`, { path })
    }
    await file.datasync()
  } finally {
    await file.close()
  }
  await disk.syncFolder(folder)
}

function isOurs(name: string): boolean {
  return (
    name === SUPERBLOCK_NAME ||
    name === QUARANTINE_NAME ||
    name === LOCK_NAME ||
    name.startsWith(`${LOCK_NAME}.`) ||
    SLOT_NAME.test(name) ||
    OWN_FILE_NAME.test(name)
  )
}

/** Throws unless a folder without an identity is empty, or holds only what may stand beside a store. */
export function assertOursOrEmpty(
  folder: string,
  kind: StoreKind,
  names: readonly string[],
  neighbours: readonly string[]
): void {
  const other: StoreKind = kind === 'store' ? 'persistence' : 'store'
  if (names.includes(identityName(other))) {
    throw new JournalError(
      'foreign-folder',
      `the data folder belongs to ${OWNERS[other]}, not to ${OWNERS[kind]}: choose another one (${folder})`,
      { folder, name: identityName(other) }
    )
  }
  for (const name of names) {
    if (isOurs(name) || name === 'lost+found' || neighbours.includes(name)) continue
    throw new JournalError(
      'foreign-folder',
      `the data folder is not empty and not a store of ours (it holds ${name}): ${folder}`,
      { folder, name }
    )
  }
}

/** True when the folder holds files that a store's data may lie in. */
export function holdsLog(names: readonly string[]): boolean {
  return names.some(name => SLOT_NAME.test(name) || OWN_FILE_NAME.test(name))
}
