import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  Admission,
  connectionsByDescriptors,
  parseOpenFilesLimit,
  Turnstile
} from '../../src/net/admission.ts'
import { isLoopbackAddress } from '../../src/net/loopback.ts'
import { listeningInodes } from '../../src/net/port-holder.ts'
import { TokenBucket } from '../../src/lib/token-bucket.ts'

describe('TokenBucket', () => {
  it('gives its burst at once, then its rate', () => {
    const bucket = new TokenBucket(10, 3, 0)
    const taken = (nowMs: number) => {
      let count = 0
      while (bucket.take(nowMs)) count++
      return count
    }
    expect(taken(0)).toBe(3)
    expect(taken(99)).toBe(0)
    expect(bucket.waitMs(99)).toBeGreaterThan(0)
    expect(bucket.waitMs(99)).toBeLessThanOrEqual(2)
    expect(taken(100)).toBe(1)
    expect(taken(1_000_000)).toBe(3)
    expect(taken(0)).toBe(0)
  })
})

describe('Turnstile', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('lets all pass in order, none faster than its rate', () => {
    const passed: number[] = []
    const turnstile = new Turnstile<number>(100, 10, n => passed.push(n), Date.now)
    for (let i = 0; i < 1_000; i++) turnstile.push(i)
    expect(passed).toHaveLength(10)
    expect(turnstile.heldCount).toBe(990)
    vi.advanceTimersByTime(1_000)
    expect(passed.length).toBeGreaterThanOrEqual(109)
    expect(passed.length).toBeLessThanOrEqual(111)
    vi.advanceTimersByTime(9_000)
    expect(passed).toEqual(Array.from({ length: 1_000 }, (_, i) => i))
    expect(vi.getTimerCount()).toBe(0)
  })

  it('lets nobody pass those who wait', () => {
    const passed: string[] = []
    const turnstile = new Turnstile<string>(10, 1, name => passed.push(name), Date.now)
    for (const name of ['a', 'b']) turnstile.push(name)
    vi.setSystemTime(Date.now() + 5_000)
    turnstile.push('c')
    vi.advanceTimersByTime(1_000)
    expect(passed).toEqual(['a', 'b', 'c'])
  })

  it('gives back those who still wait when it is closed', () => {
    const turnstile = new Turnstile<number>(10, 1, () => undefined, Date.now)
    for (let i = 0; i < 4; i++) turnstile.push(i)
    expect(turnstile.close()).toEqual([1, 2, 3])
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('Admission', () => {
  it('counts those for whom there is no place', () => {
    const admission = new Admission({ connectionsMax: 2, perSecond: 1, burst: 1 })
    expect([admission.enter(), admission.enter(), admission.enter()]).toEqual([true, true, false])
    expect(admission.refused).toBe(1)
    admission.leave()
    expect(admission.enter()).toBe(true)
  })

  it('leaves 64 descriptors to the rest of the process', () => {
    const table =
      'Limit                     Soft Limit           Hard Limit           Units     \n' +
      'Max processes             7823                 7823                 processes \n' +
      'Max open files            1024                 4096                 files     \n'
    expect(parseOpenFilesLimit(table)).toBe(1024)
    expect(connectionsByDescriptors(1024)).toBe(960)
    expect(connectionsByDescriptors(10)).toBe(16)
    expect(parseOpenFilesLimit(table.replace('1024  ', 'unlimited'))).toBe(2 ** 20)
    expect(connectionsByDescriptors()).toBeGreaterThan(0)
  })
})

describe('peers', () => {
  it('are local from 127.0.0.0/8 and ::1', () => {
    for (const peer of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1']) {
      expect(isLoopbackAddress(peer), peer).toBe(true)
    }
    for (const peer of ['10.0.0.1', '::', '::ffff:10.0.0.1', 'fe80::1', '']) {
      expect(isLoopbackAddress(peer), peer).toBe(false)
    }
  })

  it('that hold a port are found in the table of the kernel', () => {
    const table =
      '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n' +
      '   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n' +
      '   1: 0100007F:075B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n'
    expect(listeningInodes(table, 1883)).toEqual(['4711'])
    expect(listeningInodes(table, 1884)).toEqual([])
    expect(listeningInodes('', 1883)).toEqual([])
  })
})
