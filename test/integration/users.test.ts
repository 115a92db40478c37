import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Finished, MotemqProcess, runMotemq } from '../support/motemq-process.ts'

let cwd = ''
let broker: MotemqProcess | null = null

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-users-'))
})
afterEach(async () => {
  await broker?.stop('SIGKILL')
  broker = null
  rmSync(cwd, { recursive: true, force: true })
})

function users(words: readonly string[], input?: string): Promise<Finished> {
  const all = ['users', ...words, '--data', 'd']
  return runMotemq(all, input === undefined ? { cwd } : { cwd, input })
}

for (const isRunning of [false, true]) {
  describe(`motemq users, with the broker ${isRunning ? 'running' : 'stopped'}`, () => {
    beforeEach(async () => {
      if (!isRunning) return
      broker = new MotemqProcess(['--data', 'd', '--listen', 'http://127.0.0.1:0'], { cwd })
      await broker.ready()
    })

    it('adds, lists, changes and removes', async () => {
      const tags = ['--tag', 'administrator']
      const added = await users(['add', 'ann', '--password-stdin', ...tags], 's3cret\n')
      expect(added).toMatchObject({ code: 0, stdout: 'user ann added\n', stderr: '' })
      expect((await users(['list'])).stdout).toBe('ann   administrator\n')
      const changed = await users(['passwd', 'ann', '--password-stdin'], 'other')
      expect(changed).toMatchObject({ code: 0, stdout: 'the password of ann is changed\n' })
      expect((await users(['remove', 'ann'])).code).toBe(0)
      expect((await users(['list', '--json'])).stdout).toBe('[]\n')
    })

    it('makes a password and shows it once', async () => {
      const added = await users(['add', 'ann', '--generate'])
      expect(added.code).toBe(0)
      expect(added.stdout).toMatch(/^user ann added\npassword: [A-Za-z0-9_-]{24}\n/)
    })

    it('exits 1 for a name that is taken or not there, changing nothing', async () => {
      await users(['add', 'ann', '--generate'])
      const twice = await users(['add', 'ann', '--generate'])
      expect(twice).toMatchObject({ code: 1, stdout: '' })
      expect(twice.stderr).toMatch(/^motemq: there is a user ann already; .*\n$/)
      for (const words of [
        ['remove', 'ben'],
        ['passwd', 'ben', '--generate']
      ]) {
        expect(await users(words)).toMatchObject({ code: 1, stdout: '' })
      }
      expect((await users(['list'])).stdout).toBe('ann\n')
    })

    it('refuses names that are none, and empty passwords', async () => {
      for (const name of ['', 'a\nb', 'x'.repeat(257)]) {
        expect((await users(['add', name, '--generate'])).code).toBe(1)
      }
      expect((await users(['add', 'ann', '--password-stdin'], '\n')).code).toBe(1)
    })

    it('exits 2 without a terminal to ask on', async () => {
      const asked = await users(['add', 'ann'])
      expect(asked.code).toBe(2)
      expect(asked.stderr).toMatch(/--password-stdin or --generate/)
    })
  })
}

describe('motemq users', () => {
  it('keeps what was added to a running broker over its stop and start', async () => {
    broker = new MotemqProcess(['--data', 'd', '--listen', 'http://127.0.0.1:0'], { cwd })
    await broker.ready()
    await users(['add', 'ann', '--generate'])
    await broker.stop()
    expect((await users(['list'])).stdout).toBe('ann\n')
    await users(['add', 'ben', '--generate'])
    broker = new MotemqProcess(['--data', 'd', '--listen', 'http://127.0.0.1:0'], { cwd })
    await broker.ready()
    expect((await users(['list'])).stdout).toBe('ann\nben\n')
  })

  it('keeps what was added to a running broker over a kill', async () => {
    broker = new MotemqProcess(['--data', 'd', '--listen', 'http://127.0.0.1:0'], { cwd })
    await broker.ready()
    await users(['add', 'ann', '--generate'])
    await broker.stop('SIGKILL')
    expect((await users(['list'])).stdout).toBe('ann\n')
  })

  it('does not take MOTEMQ_USER once there is a user', async () => {
    await users(['add', 'ann', '--generate'])
    const env = { MOTEMQ_USER: 'eve', MOTEMQ_PASSWORD: 'x' }
    broker = new MotemqProcess(['--data', 'd', '--listen', 'http://127.0.0.1:0'], { cwd, env })
    await broker.ready()
    expect((await users(['list'])).stdout).toBe('ann\n')
  })

  it('makes no data folder only to look', async () => {
    const listed = await users(['list'])
    expect(listed.code).toBe(1)
    expect(listed.stderr).toMatch(/there is no data folder/)
  })

  it('hash prints what a config file takes', async () => {
    const ended = await runMotemq(['users', 'hash', '--password-stdin'], { cwd, input: 'x\n' })
    expect(ended.code).toBe(0)
    expect(ended.stdout).toMatch(/^scrypt\$32768\$8\$1\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+\n$/)
  })
})

describe('who may connect', () => {
  /** What an MQTT 3.1.1 client gets: 'connected', or the return code that it is refused with. */
  async function tryConnect(url: string, credentials: object): Promise<string | number> {
    const { connect } = await import('mqtt')
    const options = {
      reconnectPeriod: 0,
      protocolVersion: 4 as const,
      clientId: 'c',
      ...credentials
    }
    const client = connect(url, options)
    try {
      return await new Promise<string | number>((resolve, reject) => {
        client.on('connect', () => resolve('connected'))
        client.on('error', error => {
          const code = 'code' in error ? error.code : null
          if (typeof code === 'number') resolve(code)
          else reject(error)
        })
      })
    } finally {
      client.end(true)
    }
  }

  it('everybody of this machine, until the first user is made, and then users only', async () => {
    broker = new MotemqProcess(['--data', 'd', '--listen', 'mqtt://127.0.0.1:0'], { cwd })
    const [url] = await broker.ready()
    expect(await tryConnect(url!, {})).toBe('connected')
    await users(['add', 'ann', '--password-stdin'], 's3cret\n')
    const ann = { username: 'ann', password: 's3cret' }
    expect(await tryConnect(url!, {})).toBe(5)
    expect(await tryConnect(url!, { ...ann, password: 'wrong' })).toBe(4)
    expect(await tryConnect(url!, ann)).toBe('connected')
    await users(['passwd', 'ann', '--password-stdin'], 'other\n')
    expect(await tryConnect(url!, ann)).toBe(4)
    expect(await tryConnect(url!, { ...ann, password: 'other' })).toBe('connected')
    await users(['remove', 'ann'])
    expect(await tryConnect(url!, {})).toBe('connected')
  })

  it('a user of the config file, who can only be changed there', async () => {
    const { writeFileSync } = await import('node:fs')
    const hash = await runMotemq(['users', 'hash', '--password-stdin'], { cwd, input: 's3cret' })
    const user = `users:\n  - name: ann\n    passwordHash: ${hash.stdout.trim()}\n`
    writeFileSync(join(cwd, 'motemq.yaml'), user)
    broker = new MotemqProcess(['--data', 'd', '--listen', 'mqtt://127.0.0.1:0'], { cwd })
    const [url] = await broker.ready()
    expect(await tryConnect(url!, { username: 'ann', password: 's3cret' })).toBe('connected')
    expect(await tryConnect(url!, {})).toBe(5)
    const removed = await users(['remove', 'ann'])
    expect(removed).toMatchObject({ code: 1, stdout: '' })
    expect(removed.stderr).toMatch(/config file/)
    expect((await users(['list'])).stdout).toBe('ann   (config file)\n')
  })

  it('nobody any more whose user is removed, over MQTT and AMQP', async () => {
    const listen = ['--listen', 'mqtt://127.0.0.1:0', '--listen', 'amqp://127.0.0.1:0']
    broker = new MotemqProcess(['--data', 'd', ...listen], { cwd })
    const urls = await broker.ready()
    await users(['add', 'ann', '--password-stdin'], 's3cret\n')
    const { connect } = await import('mqtt')
    const credentials = { username: 'ann', password: 's3cret' }
    const mqtt = connect(urls.find(url => url.startsWith('mqtt:'))!, {
      ...credentials,
      protocolVersion: 5,
      reconnectPeriod: 0
    })
    await new Promise(resolve => mqtt.once('connect', resolve))
    const { connect: connectAmqp } = await import('amqplib')
    const url = urls.find(url => url.startsWith('amqp:'))!
    const amqp = await connectAmqp(url.replace('//', '//ann:s3cret@'))
    const told = new Promise<number | undefined>(resolve => {
      mqtt.once('disconnect', ({ reasonCode }) => resolve(reasonCode))
    })
    const closed = once(amqp, 'close')
    await users(['remove', 'ann'])
    expect(await told).toBe(0x87)
    expect((await closed)[0]?.code).toBe(320)
    mqtt.end(true)
  })
})
