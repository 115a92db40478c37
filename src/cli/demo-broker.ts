/** The broker of `motemq demo`: one that is there, or one of our own, with a folder that goes with it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type AmqpTarget, parseAmqpUrl } from '../client/amqp-client.ts'
import { parseTarget, type TargetUrl } from '../client/target.ts'
import { CommandError, EXIT_USAGE } from './exit.ts'

const START_TIMEOUT_MS = 30_000
const PROBE_TIMEOUT_MS = 3_000
const LISTENERS = ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0', 'http://127.0.0.1:0']

export interface DemoFlags {
  readonly url?: string
  readonly amqp?: string
  readonly metrics?: string
  readonly seconds?: string
}

export interface DemoBroker {
  readonly mqtt: TargetUrl
  /** Null: nothing speaks AMQP there. */
  readonly amqp: AmqpTarget | null
  /** Its counters by name, as Prometheus has them; null: it tells none. */
  readMetrics(): Promise<string | null>
  /** What the user is told first. */
  readonly note: string
  close(): Promise<void>
}

export async function findBroker(flags: DemoFlags): Promise<DemoBroker> {
  const url = flags.url ?? process.env['MOTEMQ_URL'] ?? 'mqtt://127.0.0.1:1883'
  const mqtt = readUrl(parseTarget(url), '--url')
  const { target } = mqtt
  if (!(await isOpen(target))) return await startBroker(url)
  const host = target.transport === 'unix' ? '127.0.0.1' : target.host
  const shownHost = host.includes(':') ? `[${host}]` : host
  const amqp = readUrl(parseAmqpUrl(flags.amqp ?? `amqp://${shownHost}:5672`), '--amqp')
  const metrics = flags.metrics ?? `http://${shownHost}:15672/metrics`
  const hasAmqp = await isOpen({ ...amqp, transport: 'tcp', path: '' })
  return {
    mqtt,
    amqp: hasAmqp ? amqp : null,
    readMetrics: () => fetchMetrics(metrics),
    note: `a broker is at ${url}`,
    close: () => Promise.resolve()
  }
}

function readUrl<T extends object>(parsed: T | string, flag: string): T {
  if (typeof parsed !== 'string') return parsed
  throw new CommandError(`${flag}: ${parsed}`, EXIT_USAGE)
}

function isOpen(target: TargetUrl['target']): Promise<boolean> {
  const { host, port, path } = target
  const socket = connect(target.transport === 'unix' ? { path } : { host, port })
  return new Promise(resolve => {
    const answer = (isThere: boolean): void => {
      socket.destroy()
      resolve(isThere)
    }
    socket.setTimeout(PROBE_TIMEOUT_MS, () => answer(false))
    socket.once('connect', () => answer(true))
    // Whatever the reason: there is no broker to be used.
    socket.once('error', () => answer(false))
  })
}

/** A process of its own, as `motemq start` is; it ends with the demo. */
async function startBroker(wanted: string): Promise<DemoBroker> {
  const folder = await mkdtemp(join(tmpdir(), 'motemq-demo-'))
  const flags = ['start', '--data', folder, '--log-format', 'json', '--log-level', 'info']
  for (const listener of LISTENERS) flags.push('--listen', listener)
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('MOTEMQ_'))
  const child = spawn(process.execPath, [process.argv[1]!, ...flags], {
    cwd: folder,
    env: Object.fromEntries(inherited),
    stdio: ['ignore', 'pipe', 'pipe']
  })
  // However the demo ends, nobody else would end its broker.
  const leave = (): void => {
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 })
  }
  process.once('exit', leave)
  const close = async (): Promise<void> => {
    await stopBroker(child, folder)
    process.off('exit', leave)
  }
  try {
    const urls = await readyUrls(child)
    const find = (scheme: string): string => urls.find(url => url.startsWith(`${scheme}:`)) ?? ''
    const metrics = `${find('http').replace(/\/$/, '')}/metrics`
    return {
      mqtt: readUrl(parseTarget(find('mqtt')), '--url'),
      amqp: readUrl(parseAmqpUrl(find('amqp')), '--amqp'),
      readMetrics: () => fetchMetrics(metrics),
      note: `no broker is at ${wanted}: one of our own runs at ${find('mqtt')}, ${find('amqp')} and ${find('http')}`,
      close
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Its first line that says `ready`. */
async function readyUrls(child: ChildProcess): Promise<readonly string[]> {
  const said: string[] = []
  child.stderr?.on('data', chunk => said.push(String(chunk)))
  const timer = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS)
  try {
    const lines = createInterface({ input: child.stdout! })
    for await (const line of lines) {
      const entry = JSON.parse(line) as { msg?: string; urls?: string[] }
      if (entry.msg !== 'ready' || entry.urls === undefined) continue
      // The rest is not read, and must not fill the pipe.
      child.stdout?.resume()
      return entry.urls
    }
  } finally {
    clearTimeout(timer)
  }
  throw new CommandError(`the demo's broker did not start: ${said.join('').trim()}`)
}

async function stopBroker(child: ChildProcess, folder: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGTERM')
    await gone
  }
  await rm(folder, { recursive: true, force: true })
}

/** With the login that a broker without users has; null when there are none to read. */
function fetchMetrics(url: string): Promise<string | null> {
  return new Promise(resolve => {
    const asked = request(url, { auth: 'guest:guest', timeout: PROBE_TIMEOUT_MS, agent: false })
    asked.on('timeout', () => asked.destroy())
    // A broker that tells nothing is no failure of the demo.
    asked.on('error', () => resolve(null))
    asked.on('response', response => {
      const chunks: Buffer[] = []
      response.on('data', chunk => chunks.push(chunk as Buffer))
      response.on('error', () => resolve(null))
      response.on('end', () => {
        resolve(response.statusCode === 200 ? Buffer.concat(chunks).toString() : null)
      })
    })
    asked.end()
  })
}
