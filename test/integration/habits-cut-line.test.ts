/**
 * A client that never pings (keepalive 0) behind a line that is cut: nothing in MQTT finds it dead, TCP's own probes
 * do. Of the full tier, since the first of them goes out after a minute of silence.
 *
 * Node sets that minute only. The time between the probes and their number are the system's (75 s and 9, Linux), here
 * the broker's namespace's.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { requireNamespaces, TwoHosts } from '../support/namespaces.ts'
import { requiresAll } from '../support/require.ts'

const PROBES = ['net.ipv4.tcp_keepalive_intvl=1', 'net.ipv4.tcp_keepalive_probes=3']
const SILENCE_MS = 60_000
const TIMEOUT_MS = 150_000

/** Says `in`, then nothing for ever; a second one says what its will was. */
const CLIENT = `
import { connect } from 'mqtt'
const [host, role] = process.argv.slice(1)
const will = { topic: 'lost', payload: Buffer.from('gone'), qos: 1, retain: false }
const options = role === 'silent' ? { keepalive: 0, will } : { keepalive: 30 }
const client = connect('mqtt://' + host, { clientId: role, reconnectPeriod: 0, ...options })
client.on('error', error => { console.log(error.message); process.exit(1) })
await new Promise(resolve => client.on('connect', resolve))
if (role === 'watcher') {
  await client.subscribeAsync('lost', { qos: 1 })
  await new Promise(resolve => client.on('message', resolve))
  console.log('gone')
  process.exit(0)
}
await new Promise(() => setInterval(() => undefined, 60_000))
`

if (requiresAll) describe('a cut line', suite)
else {
  describe('a cut line', () => {
    it('is part of the full tier', () => {
      expect(requiresAll).toBe(false)
    })
  })
}

function suite(): void {
  requireNamespaces('under a client that never pings', () => {
    let hosts: TwoHosts
    let cwd = ''

    beforeAll(() => {
      cwd = mkdtempSync(join(tmpdir(), 'motemq-cut-'))
      hosts = new TwoHosts()
    })
    afterAll(async () => {
      await hosts.remove()
      rmSync(cwd, { recursive: true, force: true })
    })

    it(
      'is found by TCP, and its will is published',
      async () => {
        for (const setting of PROBES) {
          expect(await hosts.here(['sysctl', '-w', setting])).toMatchObject({ code: 0 })
        }
        const listeners = ['{ url: "mqtt://0.0.0.0:1883", insecure: true }']
        writeFileSync(join(cwd, 'motemq.yaml'), `listeners:\n  - ${listeners.join('\n  - ')}\n`)
        const broker = hosts.motemq(['--data', 'd'], cwd)
        await broker.ready()
        const node = [process.execPath, '--input-type=module', '-e', CLIENT, '--']
        const seen = hosts.here([...node, '127.0.0.1', 'watcher'])
        void hosts.nodeThere(CLIENT, [hosts.address, 'silent'])
        const known = () =>
          broker.lines.filter(({ clientId, msg }) => msg === 'connected' && clientId)
        while (known().length < 2) await new Promise(resolve => setTimeout(resolve, 50))
        const startedAt = performance.now()
        hosts.cut()
        expect(await seen).toMatchObject({ code: 0, stdout: 'gone\n' })
        // Not before the minute: it was no other deadline.
        expect(performance.now() - startedAt).toBeGreaterThan(SILENCE_MS - 5_000)
        expect((await broker.stop()).code).toBe(0)
      },
      TIMEOUT_MS
    )
  })
}
