/** What a command does not need it does not load: a gateway's broker starts without the clients. */
import { readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Everything that `file` loads at once: files of ours, and packages. */
function loadedBy(file: string, found = new Set<string>()): Set<string> {
  if (found.has(file)) return found
  found.add(file)
  const source = readFileSync(join(root, file), 'utf8')
  for (const [, head = '', target = ''] of source.matchAll(
    /^(?:import|export)\s([^;]*?)from '([^']+)'/gm
  )) {
    if (head.startsWith('type ')) continue
    if (target.startsWith('.'))
      loadedBy(relative(root, resolve(root, dirname(file), target)), found)
    else found.add(target)
  }
  return found
}

describe('the commands', () => {
  it.each(['src/cli/main.ts', 'src/cli/start.ts', 'src/server.ts'])('%s loads no client', file => {
    const loaded = [...loadedBy(file)]
    expect(loaded.length).toBeGreaterThan(5)
    expect(loaded.filter(name => name.startsWith('src/client/'))).toEqual([])
    expect(loaded.filter(name => /src\/cli\/(pub|sub|demo|bench)/.test(name))).toEqual([])
  })

  it.each(['src/cli/main.ts', 'src/cli/start.ts', 'src/server.ts'])(
    '%s loads nothing that only a certificate, a WebSocket, a file or an MQTT client needs',
    file => {
      const late = /^(node:tls|ws|yaml|mqtt-packet)$|^src\/(net\/(handshakes|tls-)|persistence\/)/
      expect([...loadedBy(file)].filter(name => late.test(name))).toEqual([])
    }
  )

  it.each(['src/cli/pub.ts', 'src/cli/sub.ts', 'src/cli/bench.ts', 'src/cli/demo.ts'])(
    '%s loads no broker, no logger, no WebSocket',
    file => {
      const loaded = [...loadedBy(file)]
      expect(loaded).toContain('src/client/mqtt-client.ts')
      const heavy = /^(pino|yaml|ws|mqtt-packet|commander)$|^src\/(server|broker|journal)\b/
      expect(loaded.filter(name => heavy.test(name))).toEqual([])
    }
  )
})
