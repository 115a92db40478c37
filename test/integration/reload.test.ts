/** SIGHUP: the files are read again, and what may change while the broker runs is taken over. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { askBroker } from '../../src/cli/ask-broker.ts'
import { Hasher, hashPassword } from '../../src/auth/password.ts'
import { MotemqProcess } from '../support/motemq-process.ts'

let cwd = ''
let broker: MotemqProcess
let url = ''

const hasher = new Hasher()

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-reload-'))
})
afterEach(async () => {
  await broker.stop('SIGKILL')
  await hasher.close()
  rmSync(cwd, { recursive: true, force: true })
})

function configure(yaml: string): void {
  writeFileSync(join(cwd, 'motemq.yaml'), yaml)
}

async function start(): Promise<void> {
  const words = ['--data', 'd', '--listen', 'mqtt://127.0.0.1:0']
  broker = new MotemqProcess(words, { cwd })
  url = (await broker.ready())[0]!
}

/** Tells the broker to reload, and waits for what it says of it. */
async function reload(said: string): Promise<Record<string, unknown>> {
  broker.stdout = ''
  broker.child.kill('SIGHUP')
  return broker.line(said)
}

async function user(name: string, password: string, rules = ''): Promise<string> {
  const { passwordHash } = await hashPassword(hasher, Buffer.from(password))
  return `  - { name: ${name}, passwordHash: "${passwordHash}"${rules} }\n`
}

function login(username: string, password: string, clientId: string) {
  return connectAsync(url, { username, password, clientId, reconnectPeriod: 0, protocolVersion: 5 })
}

describe('SIGHUP', () => {
  it('takes users and their rules over: who is gone is sent away, who is new may come', async () => {
    const ann = await user('ann', 'one')
    configure(`users:\n${ann}${await user('ben', 'two')}`)
    await start()
    const [stays, goes] = [await login('ann', 'one', 'a'), await login('ben', 'two', 'b')]
    const reason = new Promise(resolve => goes.once('disconnect', resolve))
    const rules = ', topics: [{ allow: read, filter: "a/#" }]'
    configure(`users:\n${ann.replace(' }\n', `${rules} }\n`)}${await user('cat', 'three')}`)
    await reload('configuration reloaded')
    expect(await reason).toMatchObject({ reasonCode: 0x87 })
    await (await login('cat', 'three', 'c')).endAsync()
    await expect(login('ben', 'two', 'b')).rejects.toThrow()
    await expect(stays.publishAsync('a/1', 'x', { qos: 1 })).rejects.toThrow()
    await stays.endAsync()
  })

  it('makes virtual hosts, queues and definitions that are new', async () => {
    configure('')
    await start()
    writeFileSync(
      join(cwd, 'more.json'),
      JSON.stringify({
        vhosts: [{ name: 'c' }],
        policies: [{ vhost: 'c', name: 'p', pattern: '', definition: { expires: 9 } }]
      })
    )
    configure(
      `vhosts: [b]
queues: [{ name: q, vhost: b }]
definitions: ${join(cwd, 'more.json')}
`
    )
    await reload('configuration reloaded')
    const ask = (path: string) => askBroker(join(cwd, 'd'), 'GET', path, null)
    expect(await ask('/api/vhosts')).toMatchObject([
      { name: '/' },
      { name: 'b', queues: 1 },
      { name: 'c' }
    ])
    expect(await ask('/api/policies')).toHaveLength(1)
  })

  it('sets the level of the log, and names what needs a restart', async () => {
    configure('')
    await start()
    configure('limits: { retainedMax: 5 }\nsys: { intervalSeconds: 9 }\nlog: { level: warn }\n')
    expect(await reload('these need a restart')).toMatchObject({
      options: ['sys.intervalSeconds', 'limits.retainedMax']
    })
    // That is less than a warning.
    expect(broker.stdout).not.toContain('configuration reloaded')
  })

  it('of files with a mistake changes nothing, and says where it is', async () => {
    configure('vhosts: [b]\n')
    await start()
    configure('vhosts: [c]\nnonsense: 1\n')
    const { mistakes } = await reload('configuration not reloaded: the old one goes on')
    expect(String(mistakes)).toContain('motemq.yaml:2')
    const names = (await askBroker(join(cwd, 'd'), 'GET', '/api/vhosts', null)) as object[]
    expect(names).toHaveLength(2)
    configure('vhosts: [c]\n')
    await reload('configuration reloaded')
    expect(await askBroker(join(cwd, 'd'), 'GET', '/api/vhosts', null)).toHaveLength(3)
    expect((await broker.stop('SIGTERM')).code).toBe(0)
  })
})
