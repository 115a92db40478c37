import { describe, expect, it } from 'vitest'
import { limitFiles, memoryLimit, parseLimit } from '../../src/lib/memory-limit.ts'

const MACHINE = 8_000_000_000

function limitOf(files: Readonly<Record<string, string>>): number {
  return memoryLimit(path => files[path] ?? null, MACHINE)
}

describe('the files that bound a process', () => {
  it('are those of its version 2 group and of the groups above', () => {
    expect(limitFiles('0::/system.slice/motemq.service\n')).toEqual([
      '/sys/fs/cgroup/system.slice/motemq.service/memory.max',
      '/sys/fs/cgroup/system.slice/memory.max',
      '/sys/fs/cgroup/memory.max'
    ])
  })

  it('are those of the memory controller in version 1, which may share its line', () => {
    expect(limitFiles('5:cpu,memory:/a\n4:memoryless:/b\n3:cpuset:/c\n')).toEqual([
      '/sys/fs/cgroup/memory/a/memory.limit_in_bytes',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes'
    ])
  })

  it('stay below the mount when the group lies outside of the namespace', () => {
    expect(limitFiles('0::/../other')).toEqual([
      '/sys/fs/cgroup/other/memory.max',
      '/sys/fs/cgroup/memory.max'
    ])
  })

  it('are none for what is no list of groups', () => {
    expect(limitFiles('')).toEqual([])
    expect(limitFiles('nonsense\n::\n')).toEqual([])
  })
})

describe('the limit of memory', () => {
  it('reads bytes, and anything else as none', () => {
    expect(parseLimit('134217728\n')).toBe(134_217_728)
    for (const text of ['max\n', '', '-1', '1e9', '12 kB'])
      expect(parseLimit(text)).toBe(Number.POSITIVE_INFINITY)
  })

  it('is the least of the group and those above it', () => {
    const files = {
      '/proc/self/cgroup': '0::/outer/inner\n',
      '/sys/fs/cgroup/outer/inner/memory.max': '300000000\n',
      '/sys/fs/cgroup/outer/memory.max': '200000000\n',
      '/sys/fs/cgroup/memory.max': 'max\n'
    }
    expect(limitOf(files)).toBe(200_000_000)
  })

  it('is that of the root of the mount in a container that names a path of its host', () => {
    const files = {
      '/proc/self/cgroup': '4:memory:/docker/abc\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '100000000\n'
    }
    expect(limitOf(files)).toBe(100_000_000)
  })

  it('is the memory of the machine when no group bounds it, or bounds it higher', () => {
    expect(limitOf({})).toBe(MACHINE)
    const files = {
      '/proc/self/cgroup': '4:memory:/\n0::/\n',
      '/sys/fs/cgroup/memory.max': 'max\n',
      '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n'
    }
    expect(limitOf(files)).toBe(MACHINE)
  })

  it('is a positive number of bytes on this machine', () => {
    expect(memoryLimit()).toBeGreaterThan(0)
    expect(Number.isFinite(memoryLimit())).toBe(true)
  })
})
