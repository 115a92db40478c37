import { describe, expect, it } from 'vitest'
import { isFrontEndBug } from '../../src/broker/front-end-bug.ts'

function errorFrom(...files: string[]): Error {
  const error = new Error('bug')
  error.stack = `Error: bug\n${files.map(file => `    at f (file:///opt/mqtt/${file}:1:1)`).join('\n')}`
  return error
}

describe('a bug', () => {
  it('costs one connection when it lies in a front-end', () => {
    expect(isFrontEndBug(errorFrom('dist/mqtt/outbound.js', 'dist/broker/deliver.js'))).toBe(true)
    expect(isFrontEndBug(errorFrom('dist/amqp/channel.js', 'dist/net/socket.js'))).toBe(true)
    expect(isFrontEndBug(errorFrom('src/net/socket.ts'))).toBe(true)
  })

  it('costs the process when it lies in the core, broker or journal, also under a folder named mqtt', () => {
    expect(isFrontEndBug(errorFrom('dist/core/queue.js', 'dist/mqtt/handle.js'))).toBe(false)
    expect(isFrontEndBug(errorFrom('dist/broker/store.js', 'dist/mqtt/handle.js'))).toBe(false)
    expect(isFrontEndBug(errorFrom('dist/journal/tail.js', 'dist/amqp/channel.js'))).toBe(false)
  })

  it('is judged by who called the library that asserted', () => {
    expect(isFrontEndBug(errorFrom('dist/lib/assert.js', 'dist/core/queue.js'))).toBe(false)
    expect(isFrontEndBug(errorFrom('dist/lib/assert.js', 'dist/mqtt/handle.js'))).toBe(true)
  })

  it('that is no Error costs the process', () => {
    expect(isFrontEndBug('thrown')).toBe(false)
  })
})
