/**
 * A broker to be measured: started as a user starts it, in a data folder of its own, on free ports. Memory and CPU
 * come from /proc, so this needs Linux; the project must be built.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))
/** Also a broker that reads back millions of messages is ready by then. */
const READY_MS = 120_000
/** As every tool shows memory: 1,048,576 bytes. */
export const MB = 1024 * 1024

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

const running = new Set()
process.on('exit', () => {
  for (const broker of running) broker.cleanUp()
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

export class Broker {
  /**
   * @param {string} [config] text of a motemq.yaml
   * @param {string[]} [flags] of node, before the program
   */
  constructor(config = '', flags = []) {
    this.folder = mkdtempSync(join(process.env['MOTEMQ_BENCH_DIR'] ?? tmpdir(), 'motemq-bench-'))
    this.data = join(this.folder, 'data')
    this.config = config
    this.flags = flags
    this.child = null
    this.ports = {}
    /** From the start of the process to its ready line, and what its journal took of it. */
    this.readyMs = 0
    this.recoveryMs = 0
  }

  get pid() {
    return this.child.pid
  }

  /** Starts it and waits until it is ready. */
  async start() {
    const log = join(this.folder, 'log')
    const file = join(this.folder, 'motemq.yaml')
    writeFileSync(file, this.config)
    writeFileSync(log, '')
    running.add(this)
    const output = openSync(log, 'a')
    const listen = ['mqtt', 'amqp', 'http'].flatMap(scheme => [
      '--listen',
      `${scheme}://127.0.0.1:0`
    ])
    const config = this.config === '' ? [] : ['--config', file]
    const args = [...this.flags, PROGRAM, 'start', ...config, '--data', this.data, ...listen]
    const began = performance.now()
    this.child = spawn(process.execPath, args, { stdio: ['ignore', output, output] })
    closeSync(output)
    for (;;) {
      const text = readFileSync(log, 'utf8')
      const line = text.split('\n').find(one => one.includes('"msg":"ready"'))
      if (line !== undefined) {
        this.readyMs = performance.now() - began
        const { urls, recovery } = JSON.parse(line)
        this.recoveryMs = recovery.tookMs
        for (const url of urls) this.ports[url.split(':')[0]] = Number(url.split(':')[2])
        return this
      }
      if (this.child.exitCode !== null || performance.now() - began > READY_MS) {
        throw new Error(`the broker did not start:\n${text}`)
      }
      await pause(5)
    }
  }

  /** @param {NodeJS.Signals} signal SIGKILL is a crash, SIGTERM a stop */
  async stop(signal) {
    const { child } = this
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill(signal)
    await ended
  }

  /** Kills it and removes all its files. */
  cleanUp() {
    running.delete(this)
    this.child?.kill('SIGKILL')
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Resident memory now, bytes. */
  rss() {
    return this.#status('VmRSS')
  }

  /** The highest resident memory since `forgetPeak`, bytes. */
  peak() {
    return this.#status('VmHWM')
  }

  forgetPeak() {
    writeFileSync(`/proc/${this.pid}/clear_refs`, '5')
  }

  #status(name) {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    return Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) * 1024
  }

  /** CPU seconds of all its threads. The scheduler counts nanoseconds, where ticks are 10 ms. */
  cpu() {
    let total = 0
    for (const task of readdirSync(`/proc/${this.pid}/task`)) {
      try {
        total += Number(
          readFileSync(`/proc/${this.pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]
        )
      } catch {
        // A thread that ended meanwhile.
      }
    }
    return total / 1e9
  }

  /** One figure of /metrics; the sum of all that have this name. */
  async metric(name) {
    const text = await fetchText(this.ports['http'], '/metrics')
    const lines = text
      .split('\n')
      .filter(one => one.startsWith(`${name} `) || one.startsWith(`${name}{`))
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
  }

  /** Bytes of the data folder on the disk. */
  diskBytes() {
    const files = readdirSync(this.data, { recursive: true })
    return files.reduce(
      (sum, file) => sum + statSync(join(this.data, String(file))).blocks * 512,
      0
    )
  }
}

function fetchText(port, path) {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path }, answer => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', part => {
        text += part
      })
      answer.on('end', () => resolve(text))
    }).on('error', reject)
  })
}

/** Waits until `isTrue()`; throws after `ms`. */
export async function until(isTrue, what, ms = 60_000) {
  const end = performance.now() + ms
  while (!(await isTrue())) {
    if (performance.now() > end) throw new Error(`waited too long for ${what}`)
    await pause(10)
  }
}

/** Its memory when it has come to rest: the lowest of three seconds. */
export async function restingRss(broker) {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 12; i++) {
    await pause(250)
    least = Math.min(least, broker.rss())
  }
  return least
}

/** Prints rows in columns; the first row is the head. The first column is text, the others stand at the right. */
export function table(rows) {
  const texts = rows.map(row => row.map(String))
  const widths = texts[0].map((_, at) => Math.max(...texts.map(row => (row[at] ?? '').length)))
  for (const row of texts) printRow(row, widths)
}

/** One row of a table whose widths are known before its figures are. */
export function printRow(row, widths) {
  const cells = row.map((cell, at) =>
    at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at])
  )
  process.stdout.write(`${cells.join('  ').trimEnd()}\n`)
}

/** `yes` or `NO`, for the last column. */
export const met = isMet => (isMet ? 'yes' : 'NO')
export const count = value => Math.round(value).toLocaleString('en-US')
