/**
 * How much memory the process may have: what its control group allows, else what the machine has.
 *
 * A group is bounded by its ancestors too, so the least of them counts. In a container the path of
 * `/proc/self/cgroup` may be that of the host and lead nowhere; the root of the mount is then the
 * container's own group, and every way up ends there.
 */
import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'

const MOUNT = '/sys/fs/cgroup'

/**
 * The files that may bound the process, from what `/proc/self/cgroup` says: `0::/path` is version 2,
 * `N:memory:/path` version 1.
 */
export function limitFiles(cgroups: string): string[] {
  const files: string[] = []
  for (const line of cgroups.split('\n')) {
    const match = /^\d+:([^:]*):(\/.*)$/.exec(line)
    if (match === null) continue
    const [, controllers = '', path = ''] = match
    if (controllers === '') {
      for (const group of wayUp(path)) files.push(`${MOUNT}${group}/memory.max`)
    } else if (controllers.split(',').includes('memory')) {
      for (const group of wayUp(path)) files.push(`${MOUNT}/memory${group}/memory.limit_in_bytes`)
    }
  }
  return files
}

/** `/a/b` is `/a/b`, `/a` and the root, which is ''. */
function wayUp(path: string): string[] {
  const names = path.split('/').filter(name => name !== '' && name !== '..')
  const groups: string[] = []
  for (let count = names.length; count > 0; count--) {
    groups.push(`/${names.slice(0, count).join('/')}`)
  }
  return [...groups, '']
}

/** Bytes that such a file allows; infinite when it says `max` or nothing that is a number. */
export function parseLimit(text: string): number {
  const digits = text.trim()
  return /^\d+$/.test(digits) ? Number(digits) : Number.POSITIVE_INFINITY
}

/** In bytes. `read` answers null for a file that is not there. */
export function memoryLimit(
  read: (path: string) => string | null = readIfThere,
  machineBytes: number = totalmem()
): number {
  let limit = machineBytes
  for (const file of limitFiles(read('/proc/self/cgroup') ?? '')) {
    const bytes = parseLimit(read(file) ?? '')
    // 0 forbids every byte: nothing runs in such a group, so it is not ours.
    if (bytes > 0 && bytes < limit) limit = bytes
  }
  return limit
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Not Linux, not mounted or not ours to read: then it says nothing.
    return null
  }
}
