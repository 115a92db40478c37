/** Who reaches a started program: seen from another host. And how it ends when it cannot start. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Checkout } from '../support/checkout.ts'
import { MotemqProcess, runMotemq } from '../support/motemq-process.ts'
import { requireNamespaces, TwoHosts } from '../support/namespaces.ts'
import { requireProgram } from '../support/require.ts'

let cwd = ''

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-network-'))
})
afterEach(() => {
  rmSync(cwd, { recursive: true, force: true })
})

/** One line a port: `1883 ECONNREFUSED` or `1883 open`. */
const PROBE = `
import { connect } from 'node:net'
const [host, ...ports] = process.argv.slice(1)
for (const port of ports) {
  const outcome = await new Promise(resolve => {
    const socket = connect(Number(port), host)
    socket.on('connect', () => { socket.destroy(); resolve('open') })
    socket.on('error', error => resolve(error.code))
  })
  console.log(port, outcome)
}
`

/** Logs in, and takes one message from a queue when one is named. */
const AMQP = `
import { connect } from 'amqplib'
const [url, queue] = process.argv.slice(1)
try {
  const connection = await connect(url)
  const channel = await connection.createChannel()
  if (queue !== undefined) {
    const message = await channel.get(queue, { noAck: true })
    console.log(message === false ? 'empty' : message.fields.routingKey + ' ' + message.content)
  }
  await connection.close()
  console.log('in')
} catch (error) {
  console.log('out', error.message)
}
`

const PORTS = ['1883', '5672', '15672', '15692', '8883', '5671', '15675']
const OPEN = ['--listen', 'mqtt://0.0.0.0:1883', '--listen', 'amqp://0.0.0.0:5672']
const MADE_FIRST = /there are no users yet; make the first with `motemq users add NAME`/

requireNamespaces('from another host', () => {
  let hosts: TwoHosts

  beforeAll(() => {
    hosts = new TwoHosts()
  })
  afterEach(async () => {
    await hosts.killAll()
  })
  afterAll(async () => {
    await hosts.remove()
  })

  const amqp = async (login: string, ...more: readonly string[]) => {
    const { stdout } = await hosts.nodeThere(AMQP, [`amqp://${login}@${hosts.address}`, ...more])
    return stdout.trim()
  }
  const publish = (...words: readonly string[]) =>
    hosts.there(['mosquitto_pub', '-h', hosts.address, '-q', '1', '-t', 'sensors/a', ...words])
  const reach = async (ports: readonly string[]) =>
    (await hosts.nodeThere(PROBE, [hosts.address, ...ports])).stdout.trim().split('\n')
  const addUser = async (name: string, password: string) => {
    const words = ['users', 'add', name, '--password-stdin', '--data', 'd']
    expect(await hosts.motemq(words, cwd, password).finished).toMatchObject({ code: 0 })
  }

  it('nothing of a fresh start is reached: it listens on loopback only', async () => {
    const broker = hosts.motemq(['start'], cwd)
    const urls = await broker.ready()
    for (const url of urls)
      expect(url).toMatch(/^(mqtt|amqp|ws|http):\/\/(127\.0\.0\.1|\[::1\]):\d+$/)
    expect(urls).toEqual(expect.arrayContaining(['mqtt://127.0.0.1:1883', 'amqp://127.0.0.1:5672']))
    expect(await reach(PORTS)).toEqual(PORTS.map(port => `${port} ECONNREFUSED`))
    const here = [process.execPath, '--input-type=module', '-e', AMQP, '--']
    const local = await hosts.here([...here, 'amqp://guest:guest@127.0.0.1'])
    expect(local.stdout.trim()).toBe('in')
    expect((await broker.stop()).code).toBe(0)
  })

  it('without users nothing opens beyond loopback: exit 2, and the command that opens it', async () => {
    const ended = await hosts.motemq(['--data', 'd', ...OPEN], cwd).finished
    expect(ended.code).toBe(2)
    const lines = ended.stderr.trimEnd().split('\n')
    expect(lines).toHaveLength(2)
    for (const line of lines) expect(line).toMatch(MADE_FIRST)
    expect(ended.stdout).not.toContain('"ready"')
  })

  it('one open listener beside closed ones is refused too, and none of them opens', async () => {
    const words = ['--listen', 'amqp://127.0.0.1:5672', '--listen', 'mqtt://[::]:1883']
    const ended = await hosts.motemq(['--data', 'd', ...words], cwd).finished
    expect(ended.code).toBe(2)
    expect(ended.stderr).toMatch(MADE_FIRST)
    expect(ended.stdout).not.toContain('"ready"')
  })

  it('with a user it starts and warns, and AMQP wants the password', async () => {
    await addUser('sensors', 'open sesame')
    const broker = hosts.motemq(['--data', 'd', ...OPEN], cwd)
    await broker.ready()
    const warnings = broker.lines.filter(({ level }) => level === 'warn')
    expect(warnings).toHaveLength(2)
    for (const { msg } of warnings) expect(msg).toMatch(/is not encrypted/)
    expect(await amqp('sensors:open%20sesame')).toBe('in')
    for (const login of ['guest:guest', 'sensors:guess', 'sensors:', 'nobody:x']) {
      expect(await amqp(login), login).toMatch(/^out .*(403|ACCESS_REFUSED|refused)/i)
    }
    expect(broker.stdout).not.toContain('sesame')
    expect((await broker.stop()).code).toBe(0)
  })

  it('the admin API never opens beyond loopback, with users and insecure as well', async () => {
    await addUser('admin', 'x')
    for (const url of ['http://0.0.0.0:15672', 'http://[::]:15672?insecure=true']) {
      const ended = await hosts.motemq(['--data', 'd', '--listen', url], cwd).finished
      expect(ended.code).toBe(2)
      expect(ended.stderr).toMatch(/would open the admin API to the network without TLS/)
    }
  })

  it('insecure: true opens that listener to everybody, with a warning', async () => {
    writeFileSync(
      join(cwd, 'motemq.yaml'),
      `listeners:
  - { url: "mqtt://0.0.0.0:1883", insecure: true }
  - { url: "amqp://0.0.0.0:5672", insecure: true }
  - { url: "metrics://0.0.0.0:15692", insecure: true }
  - http://127.0.0.1:15672
`
    )
    const broker = hosts.motemq(['--data', 'd'], cwd)
    await broker.ready()
    expect(broker.lines.filter(({ level }) => level === 'warn')).toHaveLength(3)
    expect(await reach(PORTS.slice(0, 4))).toEqual([
      '1883 open',
      '5672 open',
      '15672 ECONNREFUSED',
      '15692 open'
    ])
    expect(await amqp('guest:guest')).toBe('in')
    expect((await broker.stop()).code).toBe(0)
  })

  requireProgram('mosquitto_pub')('mosquitto_pub', () => {
    it('is let in with its password only, and what it sent is taken over AMQP', async () => {
      await addUser('sensors', 'sesame')
      writeFileSync(
        join(cwd, 'motemq.yaml'),
        'queues:\n  - { name: telemetry, bindings: ["sensors/#"] }\n'
      )
      const broker = hosts.motemq(['--data', 'd', ...OPEN], cwd)
      await broker.ready()
      expect((await publish('-m', 'anonymous')).code).not.toBe(0)
      expect((await publish('-m', 'guessed', '-u', 'sensors', '-P', 'x')).code).not.toBe(0)
      expect((await publish('-m', 'guest', '-u', 'guest', '-P', 'guest')).code).not.toBe(0)
      expect(await amqp('sensors:sesame', 'telemetry')).toBe('empty\nin')
      const sent = await publish('-m', '21.5', '-u', 'sensors', '-P', 'sesame')
      expect(sent).toMatchObject({ code: 0 })
      expect(await amqp('sensors:sesame', 'telemetry')).toBe('sensors.a 21.5\nin')
      expect((await broker.stop()).code).toBe(0)
    })

    it('needs no password where the listener is insecure and there are no users', async () => {
      const url = 'mqtt://0.0.0.0:1883?insecure=true'
      const broker = hosts.motemq(['--data', 'd', '--listen', url], cwd)
      await broker.ready()
      expect(await publish('-m', 'x')).toMatchObject({ code: 0 })
      await broker.stop()
    })
  })
})

describe('a start that cannot be', () => {
  const LISTEN = ['--listen', 'mqtt://127.0.0.1:0']

  async function oneLine(words: readonly string[], code: number): Promise<string> {
    const ended = await runMotemq(words, { cwd })
    expect(ended.code).toBe(code)
    expect(ended.stderr).toMatch(/^motemq: .*\n$/)
    expect(ended.stdout).not.toContain('"ready"')
    return ended.stderr
  }

  it('names who holds the port, and the flag that takes another', async () => {
    const holder = await listenAnywhere()
    const { port } = holder.address() as { port: number }
    const line = await oneLine(['--data', 'd', '--listen', `amqp://127.0.0.1:${port}`], 1)
    holder.close()
    expect(line).toContain(`amqp://127.0.0.1:${port}`)
    expect(line).toContain(`(pid ${process.pid})`)
    expect(line).toContain(`--listen amqp://127.0.0.1:${port + 1}`)
    expect(readFileSync(join(cwd, 'd', 'lock'), 'utf8')).toMatch(/^released/)
  })

  it('names the process that has the data folder', async () => {
    const first = new MotemqProcess(['--data', 'd', ...LISTEN], { cwd })
    await first.ready()
    const line = await oneLine(['--data', 'd', ...LISTEN], 1)
    expect(line).toContain(`in use by process ${first.child.pid}`)
    expect(await first.stop()).toMatchObject({ code: 0 })
  })

  it('leaves a folder that is somebody else’s as it is, and names it', async () => {
    mkdirSync(join(cwd, 'pictures'))
    writeFileSync(join(cwd, 'pictures', 'holiday.jpg'), 'not ours')
    const line = await oneLine(['--data', 'pictures', ...LISTEN], 1)
    expect(line).toContain(join(cwd, 'pictures'))
    expect(line).toContain('holiday.jpg')
    expect(readdirSync(join(cwd, 'pictures'))).toEqual(['holiday.jpg'])
  })

  it('leaves a folder of a newer version as it is, and names both formats', async () => {
    mkdirSync(join(cwd, 'd'))
    writeFileSync(join(cwd, 'd', 'motemq.store'), 'motemq store 99 0123456789abcdef 01234567\n')
    const line = await oneLine(['--data', 'd', ...LISTEN], 1)
    expect(line).toMatch(/newer version \(format 99, this one knows \d+\)/)
    expect(readdirSync(join(cwd, 'd'))).toEqual(['motemq.store'])
  })

  it('is told all mistakes of its config, its environment and its flags at once', async () => {
    writeFileSync(join(cwd, 'm.yaml'), 'sync: never\nlimits: { retainedMax: many }\nqueue: []\n')
    const words = ['--config', 'm.yaml', '--data', 'd', '--listen', 'coap://0.0.0.0']
    const env = { MOTEMQ_LOG_LEVEL: 'loud' }
    const ended = await runMotemq(words, { cwd, env })
    expect(ended).toMatchObject({ code: 2, stdout: '' })
    const lines = ended.stderr.trimEnd().split('\n')
    expect(lines).toHaveLength(5)
    expect(lines[0]).toMatch(/^motemq: m\.yaml:1: sync: /)
    expect(lines[1]).toMatch(/^motemq: m\.yaml:2: limits\.retainedMax: /)
    expect(lines[2]).toMatch(/^motemq: m\.yaml:3: the key "queue" .*did you mean "queues"/)
    expect(lines[3]).toContain('MOTEMQ_LOG_LEVEL')
    expect(lines[4]).toMatch(/--listen: .*coap/)
    expect(readdirSync(cwd)).toEqual(['m.yaml'])
  })
})

describe('npm start', () => {
  it('builds, runs, and ends with 0 on SIGTERM: ports and data folder are free again', async () => {
    const clone = new Checkout()
    try {
      const holder = await listenAnywhere()
      const { port } = holder.address() as { port: number }
      await new Promise(resolve => holder.close(resolve))
      const env = { MOTEMQ_LISTEN: `mqtt://127.0.0.1:${port}` }
      for (let round = 0; round < 2; round++) {
        const run = clone.sh('exec npm start', env)
        await run.saw('"ready"')
        run.child.kill('SIGTERM')
        expect(await run.exit, run.stderr).toBe(0)
        expect(run.stdout).toContain('"stopped"')
        const lock = readFileSync(join(clone.folder, 'data', 'lock'), 'utf8')
        expect(lock).toMatch(/^released/)
      }
    } finally {
      clone.remove()
    }
  })
})

async function listenAnywhere(): Promise<Server> {
  const server = createServer()
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return server
}
