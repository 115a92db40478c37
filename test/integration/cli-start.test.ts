import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MotemqProcess, runMotemq } from '../support/motemq-process.ts'

let cwd = ''
const running: MotemqProcess[] = []

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'motemq-cli-'))
})
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop('SIGKILL')
  rmSync(cwd, { recursive: true, force: true })
})

function start(
  words: readonly string[],
  env: Readonly<Record<string, string>> = {}
): MotemqProcess {
  const one = new MotemqProcess(words, { cwd, env })
  running.push(one)
  return one
}

const HTTP = ['--listen', 'http://127.0.0.1:0']

describe('motemq start', () => {
  it('logs one line `ready` with the real URLs, and exits 0 on SIGTERM', async () => {
    const broker = start(['start', '--data', 'd', ...HTTP, '--listen', 'mqtt://127.0.0.1:0'])
    const urls = await broker.ready()
    expect(urls).toHaveLength(2)
    for (const url of urls) expect(url).toMatch(/^(http|mqtt):\/\/127\.0\.0\.1:[1-9]\d*$/)
    expect(await broker.stop()).toMatchObject({ code: 0, stderr: '' })
    const lines = broker.stdout.trimEnd().split('\n')
    for (const line of lines) expect(() => JSON.parse(line)).not.toThrow()
    expect(lines.filter(line => line.includes('"msg":"ready"'))).toHaveLength(1)
  })

  it('is the command when none is given, and stops on SIGINT as well', async () => {
    const broker = start([...HTTP, '--data', 'd'])
    await broker.ready()
    expect((await broker.stop('SIGINT')).code).toBe(0)
  })

  it('takes signals that come together for one: Ctrl-C under npm comes twice', async () => {
    const broker = start([...HTTP, '--data', 'd'])
    await broker.ready()
    broker.child.kill('SIGINT')
    expect((await broker.stop('SIGTERM')).code).toBe(0)
    expect(broker.stdout).toContain('"msg":"stopped"')
  })

  it('makes its data folder for its owner only', async () => {
    const broker = start(['--data', 'd', ...HTTP])
    await broker.ready()
    expect(statSync(join(cwd, 'd')).mode & 0o777).toBe(0o700)
    expect(statSync(join(cwd, 'd', 'admin.sock')).mode & 0o777).toBe(0o600)
  })

  it('refuses a listener of a virtual host that is not there, and starts nothing', async () => {
    const url = 'mqtt://127.0.0.1:0?vhost=plant'
    const { code, stderr } = await runMotemq(['--data', 'd', '--listen', url], { cwd })
    expect(code).toBe(2)
    expect(stderr).toContain("no virtual host 'plant'")
  })

  it('is alive and ready over HTTP', async () => {
    const broker = start(['--data', 'd', ...HTTP])
    const [url] = await broker.ready()
    expect((await fetch(`${url}/healthz`)).status).toBe(200)
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    expect((await fetch(`${url}/nothing`)).status).toBe(404)
  })

  it('shows its metrics over HTTP', async () => {
    const broker = start(['--data', 'd', ...HTTP])
    const [url] = await broker.ready()
    const answer = await fetch(`${url}/metrics`)
    expect(answer.headers.get('content-type')).toContain('version=0.0.4')
    expect(await answer.text()).toMatch(/^motemq_queues 0$/m)
  })

  it('exits 2 with one line a mistake, and starts nothing', async () => {
    writeFileSync(join(cwd, 'motemq.yaml'), 'log:\n  levl: info\nfoo: 1\n')
    const ended = await runMotemq(['--data', 'd', '--listen', 'foo'], { cwd })
    expect(ended.code).toBe(2)
    expect(ended.stdout).toBe('')
    expect(ended.stderr.trimEnd().split('\n')).toEqual([
      'motemq: motemq.yaml:2: the key "levl" is not known; did you mean "level"?',
      'motemq: motemq.yaml:3: the key "foo" is not known',
      'motemq: --listen: "foo" is no URL such as mqtt://127.0.0.1:1883'
    ])
    expect(() => statSync(join(cwd, 'd'))).toThrow()
  })

  it('exits 2 for an unknown flag or command', async () => {
    const flag = await runMotemq(['--lissten', 'x'], { cwd })
    expect(flag).toMatchObject({ code: 2, stdout: '' })
    expect(flag.stderr).toContain("unknown option '--lissten'")
    const command = await runMotemq(['strat'], { cwd })
    expect(command.code).toBe(2)
    expect(command.stderr).toBe('motemq: there is no command "strat"; did you mean start?\n')
  })

  it('exits 1 with one line when a port is in use', async () => {
    const holder = createServer()
    await new Promise<void>(resolve => {
      holder.listen(0, '127.0.0.1', resolve)
    })
    const bound = holder.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : 0
    const ended = await runMotemq(['--data', 'd', '--listen', `mqtt://127.0.0.1:${port}`], { cwd })
    holder.close()
    expect(ended.code).toBe(1)
    expect(ended.stderr).toMatch(
      `cannot listen on mqtt://127.0.0.1:${port}: port ${port} is in use by `
    )
    expect(ended.stderr).toContain(`--listen mqtt://127.0.0.1:${port + 1}`)
    expect(ended.stderr.trimEnd()).not.toContain('\n')
    expect(ended.stdout).not.toContain('"ready"')
  })

  it('exits 1 when its data folder is in use', async () => {
    const first = start(['--data', 'd', ...HTTP])
    await first.ready()
    const second = await runMotemq(['--data', 'd', ...HTTP], { cwd })
    expect(second.code).toBe(1)
    expect(second.stderr.trimEnd()).not.toContain('\n')
  })

  it('exits 1 when its data folder belongs to something else', async () => {
    writeFileSync(join(cwd, 'holiday.jpg'), 'not ours')
    const ended = await runMotemq(['--data', '.', ...HTTP], { cwd })
    expect(ended.code).toBe(1)
    expect(ended.stderr.trimEnd()).not.toContain('\n')
  })

  it('shows version and help, and exits 0', async () => {
    for (const words of [
      ['--version'],
      ['version'],
      ['--help'],
      ['start', '--help'],
      ['users', '--help']
    ]) {
      const ended = await runMotemq(words, { cwd })
      expect(ended, words.join(' ')).toMatchObject({ code: 0, stderr: '' })
      expect(ended.stdout).not.toBe('')
    }
  })
})

describe('start rules', () => {
  it('without users refuse what others can reach, naming the command that opens it properly', async () => {
    const words = ['--data', 'd', '--listen', 'mqtt://0.0.0.0:0', '--listen', 'http://0.0.0.0:0']
    const ended = await runMotemq(words, { cwd })
    expect(ended.code).toBe(2)
    const lines = ended.stderr.trimEnd().split('\n')
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(/^motemq: mqtt:\/\/0\.0\.0\.0:0 would be open .*motemq users add NAME/)
    expect(lines[1]).toMatch(/^motemq: http:\/\/0\.0\.0\.0:0 would open the admin API/)
    expect(ended.stdout).not.toContain('"ready"')
  })

  it('let it start when the listener says that it is insecure', async () => {
    const broker = start(['--data', 'd', '--listen', 'mqtt://0.0.0.0:0?insecure=true'])
    await broker.ready()
    expect(broker.stdout).toMatch(/"level":"warn".*is open to everybody/)
  })

  it('with a user let it start and warn', async () => {
    const env = { MOTEMQ_USER: 'ann', MOTEMQ_PASSWORD: 'hunter2' }
    const broker = start(['--data', 'd', '--listen', 'mqtt://0.0.0.0:0'], env)
    await broker.ready()
    expect(broker.stdout).toMatch(/"level":"warn".*is not encrypted/)
    expect(broker.stdout).not.toContain('hunter2')
    await broker.stop()
    const list = await runMotemq(['users', 'list', '--data', 'd'], { cwd })
    expect(list.stdout).toBe('ann   administrator\n')
  })
})

describe('motemq config', () => {
  it('print shows every option with its value and source', async () => {
    writeFileSync(join(cwd, 'motemq.yaml'), 'limits:\n  retainedMax: 5\n')
    const env = { MOTEMQ_LOG_LEVEL: 'warn' }
    const ended = await runMotemq(['config', 'print', '--sync-idle-ms', '50'], { cwd, env })
    expect(ended.code).toBe(0)
    expect(ended.stdout).toMatch(/^ {2}retainedMax: 5 +# motemq\.yaml:2$/m)
    expect(ended.stdout).toMatch(/^ {2}level: "warn" +# variable MOTEMQ_LOG_LEVEL$/m)
    expect(ended.stdout).toMatch(/^syncIdleMs: 50 +# flag --sync-idle-ms$/m)
  })

  it('check finds mistakes and exits 2, or says which files it read', async () => {
    expect(await runMotemq(['config', 'check'], { cwd })).toMatchObject({
      code: 0,
      stdout: 'ok: no config file, all defaults\n'
    })
    writeFileSync(join(cwd, 'motemq.yaml'), 'data: x\n')
    const good = await runMotemq(['config', 'check'], { cwd })
    expect(good).toMatchObject({ code: 0, stdout: 'ok: motemq.yaml\n' })
    writeFileSync(join(cwd, 'motemq.yaml'), 'data: [x]\n')
    const bad = await runMotemq(['config', 'check'], { cwd })
    expect(bad).toMatchObject({
      code: 2,
      stderr: 'motemq: motemq.yaml:1: data is a list; it is a single value\n'
    })
  })
})
