/** The package as users get it: packed, installed without scripts, run by this machine's Node and on other processors. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConsumeMessage, connect as connectAmqp } from 'amqplib'
import { connectAsync } from 'mqtt'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { isEmulated, MACHINES, nodeCommand, requireMachine } from '../support/emulator.ts'
import { Program } from '../support/program.ts'
import {
  bytesOf,
  hasRegistry,
  Installation,
  installScriptsOf,
  isNative,
  packInto
} from '../support/tarball.ts'

const SLOW_MS = 300_000
const LISTEN = ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0']
/** The quick start's. */
const CONFIG = 'queues:\n  - name: telemetry\n    bindings: ["sensors/#"]\n'
const IN_FLIGHT = 20

let folder = ''
let tarball = ''
const started: Program[] = []

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'motemq-tarball-'))
  tarball = packInto(folder)
}, SLOW_MS)
afterEach(async () => {
  for (const program of started.splice(0)) await program.kill()
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A folder with the quick start's config. */
function newWorkFolder(): string {
  const cwd = mkdtempSync(join(folder, 'work-'))
  writeFileSync(join(cwd, 'motemq.yaml'), CONFIG)
  return cwd
}

async function start(command: readonly string[], cwd: string): Promise<Program> {
  const options = { command, cwd, dataDir: join(cwd, 'data'), listen: LISTEN }
  const program = await Program.start({ ...options, readyTimeoutMs: SLOW_MS / 2 })
  started.push(program)
  return program
}

/** The quick start's `kill -9`. */
async function pullThePlug(program: Program): Promise<void> {
  const lock = readFileSync(join(program.dataDir, 'lock'), 'utf8')
  const pid = Number(/^pid=(\d+)$/m.exec(lock)?.[1])
  expect(pid).toBe(program.pid)
  const exit = program.exit()
  process.kill(pid, 'SIGKILL')
  expect((await exit).signal).toBe('SIGKILL')
}

/** Publishes readings with QoS 1, some in flight, until `count` are acknowledged; `then` is called at that moment. */
async function publish(program: Program, prefix: string, count: number, then: () => Promise<void>) {
  const client = await connectAsync(program.url('mqtt').href, {
    reconnectPeriod: 0,
    connectTimeout: SLOW_MS
  })
  // The plug is pulled on it.
  client.on('error', () => undefined)
  let sent = 0
  let acknowledged = 0
  await new Promise<void>((resolve, reject) => {
    const next = () => {
      client.publish('sensors/hall/temperature', `${prefix}${sent++}`, { qos: 1 }, error => {
        // Those that are in flight when the plug is pulled fail, and are promised to nobody.
        if (error || ++acknowledged > count) return
        if (acknowledged === count) then().then(resolve, reject)
        next()
      })
    }
    for (let i = 0; i < IN_FLIGHT; i++) next()
  })
  await client.endAsync(true)
  return acknowledged
}

/** Takes all there is out of the queue. */
async function drain(program: Program): Promise<string[]> {
  const connection = await connectAmqp(program.url('amqp').href.replace('//', '//guest:guest@'))
  const channel = await connection.createChannel()
  const readings: string[] = []
  const { messageCount } = await channel.checkQueue('telemetry')
  await new Promise<void>((resolve, reject) => {
    if (messageCount === 0) return resolve()
    const take = (message: ConsumeMessage | null) => {
      if (message === null) return
      readings.push(String(message.content))
      channel.ack(message)
      if (readings.length === messageCount) resolve()
    }
    channel.consume('telemetry', take).catch(reject)
  })
  await channel.close()
  await connection.close()
  return readings
}

const inOrder = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}`)

/** The plug is pulled while readings come in: what was acknowledged is there after a restart, in order, once. */
async function losesNothing(command: readonly string[], cwd: string): Promise<Program> {
  const killed = await start(command, cwd)
  const acknowledged = await publish(killed, '', 200, () => pullThePlug(killed))
  const restarted = await start(command, cwd)
  const readings = await drain(restarted)
  expect(readings.length).toBeGreaterThanOrEqual(acknowledged)
  expect(readings).toEqual(inOrder('', readings.length))
  return restarted
}

describe('the package', () => {
  it('has the same bytes when it is packed again, elsewhere', { timeout: SLOW_MS }, () => {
    const again = join(folder, 'again')
    mkdirSync(again)
    expect(readFileSync(packInto(again)).equals(readFileSync(tarball))).toBe(true)
  })
})

const isOnline = hasRegistry()
const needs = isOnline ? '' : ' (needs an npm registry)'

describe.skipIf(!isOnline)(`the package, installed without scripts${needs}`, () => {
  const installed = new Installation()
  const others = MACHINES.filter(({ arch }) => arch !== process.arch)
  const nodes = new Installation()
  let native: string[]

  beforeAll(() => {
    installed.install([tarball])
    native = [installed.path('.bin', 'motemq')]
  }, SLOW_MS)
  beforeAll(() => {
    const packages = others.filter(isEmulated).map(({ nodePackage }) => `${nodePackage}@20`)
    if (packages.length > 0) nodes.install(packages, ['--no-save', '--force'])
  }, SLOW_MS)
  afterAll(() => {
    installed.remove()
    nodes.remove()
  })

  it('holds no native code and nothing to be run at installation', () => {
    expect(isNative(process.execPath)).toBe(true)
    const files = installed.files()
    expect(files.filter(isNative).map(file => installed.relative(file))).toEqual([])
    expect(files.filter(file => file.endsWith('binding.gyp'))).toEqual([])
    const packages = files.filter(file =>
      /^(@[^/]+\/)?[^/]+\/package\.json$/.test(
        installed.relative(file).split('node_modules/').at(-1)!
      )
    )
    expect(packages.length).toBeGreaterThan(5)
    expect(packages.filter(manifest => installScriptsOf(manifest).length > 0)).toEqual([])
    const [packed, unpacked] = [bytesOf([tarball]), bytesOf(files)]
    process.stdout.write(
      `tarball ${packed} bytes; installed: ${packages.length} packages, ${files.length} files, ${unpacked} bytes\n`
    )
  })

  it('loses nothing that this machine acknowledged before a kill -9', {
    timeout: 60_000
  }, async () => {
    await (await losesNothing(native, newWorkFolder())).stop()
  })

  for (const machine of others) {
    requireMachine(machine, `on ${machine.name}`, () => {
      const script = () => installed.path('motemq', 'bin', 'motemq.js')

      if (machine.isNodeOld) {
        it('says in one line which Node it needs', () => {
          const [command = '', ...words] = nodeCommand(machine, nodes.path(), false)
          const cwd = newWorkFolder()
          const { status, stdout, stderr } = spawnSync(command, [...words, script(), 'start'], {
            cwd,
            encoding: 'utf8',
            timeout: SLOW_MS
          })
          expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
          expect(stderr).toMatch(/^motemq: needs Node\.js 20\.15 .*: this is v20\.\d+\.\d+\n$/)
        })
      }

      it('loses nothing that it acknowledged before a kill -9, and neither does the next machine', async () => {
        const cwd = newWorkFolder()
        const command = [...nodeCommand(machine, nodes.path(), machine.isNodeOld), script()]
        const program = await losesNothing(command, cwd)
        await expect(start(native, cwd)).rejects.toThrow('is in use by process')
        const acknowledged = await publish(program, 'later ', 50, () => pullThePlug(program))
        const elsewhere = await start(native, cwd)
        // What the backend took before may come again: nobody waited for the acknowledgement.
        const readings = (await drain(elsewhere)).filter(reading => reading.startsWith('later '))
        expect(readings.length).toBeGreaterThanOrEqual(acknowledged)
        expect(readings).toEqual(inOrder('later ', readings.length))
        await elsewhere.stop()
      })
    })
  }
})
