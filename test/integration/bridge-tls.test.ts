/** A bridge over TLS: the certificate of the far side is judged, what was renewed is used without a restart. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { BridgeStatus } from '../../src/broker/bridges.ts'
import { askBroker } from '../../src/cli/ask-broker.ts'
import { Authority, writePair } from '../support/certs.ts'
import { MotemqProcess } from '../support/motemq-process.ts'

let cwd = ''
let far: MotemqProcess
let near: MotemqProcess
const authority = new Authority()

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-bridge-'))
  writeFileSync(join(cwd, 'ca.pem'), authority.own.cert)
  writeFileSync(join(cwd, 'secret'), 'guest\n')
})
afterEach(async () => {
  await near.stop('SIGKILL')
  await far.stop('SIGKILL')
  rmSync(cwd, { recursive: true, force: true })
})

async function start(days: readonly [from: number, until: number], ca: string): Promise<void> {
  const [fromDays, untilDays] = days
  const made = authority.server({ fromDays, untilDays })
  const { cert, key } = writePair(cwd, 'far', made)
  const tls = ['--tls-cert', cert, '--tls-key', key]
  far = new MotemqProcess(['--data', 'far', '--listen', 'amqps://127.0.0.1:0', ...tls], { cwd })
  const { port } = new URL((await far.ready())[0]!)
  const bridge = `{ name: b, url: "amqps://guest@localhost:${port}", passwordFile: secret, topics: [a], retryMinMs: 20, retryMaxMs: 40, tls: { ${ca} } }`
  writeFileSync(join(cwd, 'near.yaml'), `bridges:\n- ${bridge}\n`)
  near = new MotemqProcess(
    ['--config', 'near.yaml', '--data', 'near', '--listen', 'mqtt://127.0.0.1:0'],
    { cwd }
  )
  await near.ready()
}

async function until(state: BridgeStatus['state']): Promise<BridgeStatus> {
  for (;;) {
    const all = await askBroker(join(cwd, 'near'), 'GET', '/api/bridges', null)
    const [status] = all as BridgeStatus[]
    if (status!.state === state) return status!
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

it('a bridge trusts the authority that it is told of', async () => {
  await start([-1, 1], 'ca: ca.pem')
  expect((await until('running')).lastError).toBe('')
})

it('a bridge does not trust a certificate of another authority, and says so', async () => {
  await start([-1, 1], 'servername: localhost')
  const { lastError } = await until('failed-config')
  expect(lastError).toMatch(/UNABLE_TO_|SELF_SIGNED/)
  const lines = near.stdout.split('\n').filter(line => line.includes('failed-config'))
  expect(lines).toHaveLength(1)
})

it('a bridge says when the certificate of the far side has expired, and runs when it is renewed', async () => {
  await start([-10, -1], 'ca: ca.pem')
  expect((await until('failed-config')).lastError).toContain('CERT_HAS_EXPIRED')
  writePair(cwd, 'far', authority.server())
  far.child.kill('SIGHUP')
  await until('running')
})
