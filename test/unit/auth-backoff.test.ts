import { describe, expect, it } from 'vitest'
import { LoginBackoff } from '../../src/auth/login-backoff.ts'

/** One attempt that fails at once; false when it was not let in. */
function failOnce(backoff: LoginBackoff, nowMs: number, user = 'ann', address = '10.0.0.1') {
  if (!backoff.begin(address, user, nowMs)) return false
  backoff.fail(address, user, nowMs)
  return true
}

describe('LoginBackoff', () => {
  it('takes five failures in a second, then pauses', () => {
    const backoff = new LoginBackoff()
    const taken = Array.from({ length: 10 }, (_, i) => failOnce(backoff, i * 10))
    expect(taken.filter(Boolean)).toHaveLength(5)
    expect(backoff.isPaused('10.0.0.1', 'ann', 100)).toBe(true)
  })

  it('doubles the pause with each further failure, up to a minute', () => {
    const backoff = new LoginBackoff()
    let nowMs = 0
    for (let i = 0; i < 5; i++) failOnce(backoff, nowMs)
    const pauses: number[] = []
    for (let i = 0; i < 9; i++) {
      const start = nowMs
      while (backoff.isPaused('10.0.0.1', 'ann', nowMs)) nowMs += 100
      pauses.push((nowMs - start) / 1000)
      expect(failOnce(backoff, nowMs)).toBe(true)
    }
    expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60])
  })

  it('never pauses a device that retries once a second with a wrong password', () => {
    const backoff = new LoginBackoff()
    for (let second = 0; second < 1_000; second++) {
      expect(failOnce(backoff, second * 1_000)).toBe(true)
    }
  })

  it('tells addresses and users apart', () => {
    const backoff = new LoginBackoff()
    for (let i = 0; i < 6; i++) failOnce(backoff, 0)
    expect(failOnce(backoff, 0)).toBe(false)
    expect(failOnce(backoff, 0, 'ben')).toBe(true)
    expect(failOnce(backoff, 0, 'ann', '10.0.0.2')).toBe(true)
  })

  it('counts attempts that are not finished as ones that could fail', () => {
    const backoff = new LoginBackoff()
    const begun = Array.from({ length: 8 }, () => backoff.begin('a', 'ann', 0))
    expect(begun.filter(Boolean)).toHaveLength(5)
    backoff.drop('a', 'ann')
    expect(backoff.begin('a', 'ann', 0)).toBe(true)
  })

  it('is forgiven by a success and by quiet', () => {
    const backoff = new LoginBackoff()
    for (let i = 0; i < 5; i++) failOnce(backoff, 0)
    expect(backoff.begin('10.0.0.1', 'ann', 1_000)).toBe(true)
    backoff.succeed('10.0.0.1', 'ann')
    expect(backoff.size).toBe(0)
    for (let i = 0; i < 4; i++) expect(failOnce(backoff, 1_000 + i)).toBe(true)

    const other = new LoginBackoff()
    for (let i = 0; i < 5; i++) failOnce(other, 0)
    expect(failOnce(other, 1_000)).toBe(true)
    for (let i = 0; i < 4; i++) expect(failOnce(other, 100_000)).toBe(true)
  })

  it('remembers a bounded number of them, and keeps those that are open', () => {
    const backoff = new LoginBackoff()
    backoff.begin('first', 'ann', 0)
    for (let i = 0; i < 20_000; i++) failOnce(backoff, 0, `user${i}`)
    expect(backoff.size).toBe(10_000)
    for (let i = 0; i < 4; i++) backoff.begin('first', 'ann', 0)
    expect(backoff.begin('first', 'ann', 0)).toBe(false)
  })
})
