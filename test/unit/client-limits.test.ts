/** What a client takes for the server's limits. */
import { describe, expect, it } from 'vitest'
import { defaultOptions } from '../../src/client/client-options.ts'
import { serverLimits } from '../../src/client/server-limits.ts'
import type { Target } from '../../src/client/target.ts'
import { Sockets } from '../../src/net/socket.ts'

describe('without a word of the server', () => {
  const sockets = new Sockets({ outputBytesMax: 1, drainTimeoutMs: 1_000 })
  const options = defaultOptions(
    { transport: 'tcp', host: '', port: 0, path: '' } as Target,
    sockets
  )

  it('no packet is longer than its length can be written', () => {
    expect(serverLimits(options, []).packetBytesMax).toBe(1 + 4 + 268_435_455)
  })
})
