import { describe, expect, it } from 'vitest'
import { MEMORY, Slabs } from '../../src/core/slabs.ts'

const BLOCK = 64 * 1024

function put(slabs: Slabs, text: string, claims = 1): { segment: number; offset: number } {
  const at = slabs.begin(text.length)
  slabs.end(at + slabs.buffer.write(text, at))
  const { segment, offset } = slabs
  for (let i = 0; i < claims; i++) slabs.claim(segment)
  return { segment, offset }
}

function read(slabs: Slabs, at: { segment: number; offset: number }): string {
  slabs.view(at.segment, at.offset)
  return slabs.buffer.toString('utf8', slabs.viewStart, slabs.viewEnd)
}

describe('slabs', () => {
  it('give back what was put, from many blocks', () => {
    const slabs = new Slabs()
    const texts = Array.from({ length: 3_000 }, (_, i) => `${i} `.padEnd(i % 200, '.'))
    const places = texts.map(text => put(slabs, text))
    expect(places.every(({ segment }) => segment >= MEMORY)).toBe(true)
    expect(places.map(place => read(slabs, place))).toEqual(texts)
    expect(slabs.bytes).toBeGreaterThan(BLOCK)
  })

  it('keep one block at most when everything is released', () => {
    const slabs = new Slabs()
    const places = Array.from({ length: 3_000 }, (_, i) => put(slabs, 'x'.repeat(i % 300), 2))
    for (const { segment } of places) slabs.release(segment)
    expect(slabs.bytes).toBeGreaterThan(BLOCK)
    for (const { segment } of places) slabs.release(segment)
    expect(slabs.bytes).toBeLessThanOrEqual(BLOCK)
  })

  it('use the same bytes again for message after message', () => {
    const slabs = new Slabs()
    for (let i = 0; i < 10_000; i++) slabs.release(put(slabs, 'x'.repeat(100)).segment)
    expect(slabs.bytes).toBe(BLOCK)
  })

  it('give a large record a block of its own, and the block back', () => {
    const slabs = new Slabs()
    const small = put(slabs, 'small')
    const large = put(slabs, 'y'.repeat(200_000))
    const behind = put(slabs, 'behind')
    expect(read(slabs, large)).toHaveLength(200_000)
    expect(read(slabs, small)).toBe('small')
    slabs.release(large.segment)
    expect(slabs.bytes).toBeLessThanOrEqual(2 * BLOCK)
    expect([read(slabs, small), read(slabs, behind)]).toEqual(['small', 'behind'])
    slabs.release(small.segment)
    slabs.release(behind.segment)
    expect(slabs.bytes).toBeLessThanOrEqual(BLOCK)
  })

  it('do not lose a block when a record that was written is claimed by nobody', () => {
    const slabs = new Slabs()
    for (let i = 0; i < 5_000; i++) put(slabs, 'x'.repeat(500), 0)
    expect(slabs.bytes).toBeLessThanOrEqual(BLOCK)
  })
})
