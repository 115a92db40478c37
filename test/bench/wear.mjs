/**
 * Wear of a memory card: bytes and syncs an hour that reach the block device, for the loads of a gateway, beside
 * Mosquitto's persistence. Each case runs on an ext4 of its own on a loop device (mounted as Raspberry Pi OS does:
 * noatime, data=ordered, commit=5), all of them at once: they burn nothing. After a start of 45 s, in which the
 * kernel's own late writes begin too, so many seconds are counted and scaled to an hour.
 *
 *   node test/bench/wear.mjs [--seconds N] [--mount OPTIONS] [--motemq FLAGS] [case...]
 *
 * Root, Linux; needs mosquitto (Debian's package) and a built project. A line a case; `--list` names them.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createServer } from 'node:net'
import { parseArgs } from 'node:util'
import { Device } from './wear-device.mjs'
import { drainQueue, openSession, Sensors } from './wear-load.mjs'

const WARM_UP_SECONDS = 45
const CARD_BYTES = 10e12
const HOURS_A_YEAR = 8766

const minute = { sensors: 100, perMinute: 1 }
const busy = { sensors: 10, perMinute: 60 }
const motemq = { broker: 'motemq' }
const timed = { broker: 'mosquitto', settings: 'autosave_interval 1' }
const changes = { broker: 'mosquitto', settings: 'autosave_interval 1\nautosave_on_changes true' }
const plain = { broker: 'mosquitto', settings: '', saves: 2 }

/** `drains`: somebody takes and acknowledges everything. `saves`: so often an hour a save is added. */
const CASES = {
  'motemq idle': { ...motemq, seconds: 600 },
  'motemq 100/min q0': { ...motemq, ...minute, qos: 0, seconds: 300 },
  'motemq 100/min q0 drained': { ...motemq, ...minute, qos: 0, drains: true, seconds: 300 },
  'motemq 100/min q1': { ...motemq, ...minute, qos: 1, seconds: 300 },
  'motemq 100/min q1 drained': { ...motemq, ...minute, qos: 1, drains: true, seconds: 300 },
  'motemq 10/s q1': { ...motemq, ...busy, qos: 1, seconds: 120 },
  'motemq 10/s q1 drained': { ...motemq, ...busy, qos: 1, drains: true, seconds: 120 },
  'mosquitto default 100/min q1': { ...plain, ...minute, qos: 1, seconds: 300 },
  'mosquitto default 100/min q1 drained': {
    ...plain,
    ...minute,
    qos: 1,
    drains: true,
    seconds: 300
  },
  'mosquitto interval 1 idle': { ...timed, seconds: 300 },
  'mosquitto interval 1 100/min q1': { ...timed, ...minute, qos: 1, seconds: 300 },
  'mosquitto changes 100/min q1': { ...changes, ...minute, qos: 1, seconds: 300 },
  'mosquitto changes 100/min q1 drained': {
    ...changes,
    ...minute,
    qos: 1,
    drains: true,
    seconds: 300
  },
  'mosquitto changes 10/s q1 drained': { ...changes, ...busy, qos: 1, drains: true, seconds: 120 }
}

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string' },
    mount: { type: 'string', default: '' },
    motemq: { type: 'string', default: '' },
    list: { type: 'boolean', default: false }
  }
})

const wait = seconds => new Promise(resolve => setTimeout(resolve, seconds * 1000))

const freePort = () =>
  new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

/** A broker as a child process, and how it is reached. */
class Broker {
  mqtt = 0
  amqp = 0
  #child = null
  #exited = null
  #output = ''

  async start(kind, settings, folder) {
    this.mqtt = await freePort()
    this.amqp = await freePort()
    const config = join(folder, '..', 'config')
    if (kind === 'motemq') {
      writeFileSync(config, 'queues:\n  - name: telemetry\n    bindings: ["sensors/#"]\n')
      const listen = [
        '--listen',
        `mqtt://127.0.0.1:${this.mqtt}`,
        '--listen',
        `amqp://127.0.0.1:${this.amqp}`
      ]
      const more = flags.motemq.split(' ').filter(flag => flag !== '')
      this.#spawn('node', [
        'bin/motemq.js',
        'start',
        '--config',
        config,
        '--data',
        folder,
        ...listen,
        ...more
      ])
    } else {
      const lines = [
        `listener ${this.mqtt} 127.0.0.1`,
        'allow_anonymous true',
        'user root',
        'persistence true',
        `persistence_location ${folder}/`,
        settings
      ]
      writeFileSync(config, `${lines.join('\n')}\n`)
      this.#spawn('/usr/sbin/mosquitto', ['-c', config])
    }
    for (let tries = 0; tries < 100 && !/"ready"| running/.test(this.#output); tries++)
      await wait(0.1)
    if (this.#child.exitCode !== null) throw new Error(`${kind} did not start: ${this.#output}`)
  }

  #spawn(program, args) {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    this.#exited = new Promise(resolve => child.on('close', resolve))
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', bytes => {
        this.#output += bytes
      })
    }
  }

  signal(name) {
    this.#child.kill(name)
  }

  async stop() {
    this.#child?.kill('SIGTERM')
    await this.#exited
  }
}

function receive(broker, { broker: kind, drains = false, sensors }, onMessage) {
  if (sensors === undefined) return async () => undefined
  if (kind === 'mosquitto') return openSession(broker.mqtt, !drains, onMessage)
  return drains ? drainQueue(broker.amqp, 'telemetry', onMessage) : async () => undefined
}

/** What a save of Mosquitto's costs now. */
async function measureSave(device, broker) {
  device.startCounting()
  broker.signal('SIGUSR1')
  await wait(40) // what ext4 writes late is part of it
  return device.stopCounting(device.files('data'))
}

async function measure(name) {
  const which = CASES[name]
  const device = new Device()
  const broker = new Broker()
  const sensors = new Sensors()
  let end = async () => undefined
  try {
    const folder = join(device.open(flags.mount).folder, 'data')
    mkdirSync(folder, { mode: 0o700 })
    await broker.start(which.broker, which.settings, folder)
    let received = 0
    end = await receive(broker, which, () => received++)
    if (which.sensors !== undefined) {
      await sensors.open(broker.mqtt, which.sensors, which.perMinute, which.qos)
    }
    await wait(WARM_UP_SECONDS)
    device.startCounting()
    const sentBefore = sensors.sent
    const start = performance.now()
    await wait(Number(flags.seconds ?? which.seconds))
    const counted = device.stopCounting(device.files('data'))
    const seconds = (performance.now() - start) / 1000
    const sent = sensors.sent - sentBefore
    const save = which.saves === undefined ? null : await measureSave(device, broker)
    if (which.qos === 1 && sensors.sent - sensors.acknowledged > 10)
      throw new Error(`${name}: not acknowledged`)
    if (which.drains && sensors.sent - received > 10) throw new Error(`${name}: not received`)
    return row(name, seconds, sent, counted, save, which.saves ?? 0)
  } finally {
    sensors.close()
    await end()
    await broker.stop()
    device.close()
  }
}

function row(name, seconds, sent, counted, save, saves) {
  const hourly = key => (counted[key] * 3600) / seconds + (save === null ? 0 : save[key] * saves)
  const mib = key => (hourly(key) / 2 ** 20).toFixed(1)
  const yearBytes = hourly('bytes') * HOURS_A_YEAR
  const years = factor => (yearBytes === 0 ? '-' : (CARD_BYTES / (yearBytes * factor)).toFixed(0))
  const cells = [
    name.padEnd(38),
    seconds.toFixed(0),
    sent,
    mib('bytes'),
    mib('data'),
    mib('journal'),
    mib('rest'),
    hourly('syncs').toFixed(0),
    sent === 0 ? '-' : (counted.bytes / sent).toFixed(0),
    (yearBytes / 1e9).toFixed(1),
    years(1),
    years(4)
  ]
  return cells.map((cell, index) => String(cell).padStart(index === 0 ? 0 : 9)).join(' ')
}

const HEADINGS = [
  'seconds',
  'sent',
  'MiB/h',
  'log',
  'ext4 jnl',
  'ext4 rest',
  'syncs/h',
  'B/msg',
  'GB/year',
  'years',
  'years x4'
]

const names = positionals.length === 0 ? Object.keys(CASES) : positionals
if (flags.list) process.stdout.write(`${Object.keys(CASES).join('\n')}\n`)
else {
  process.stdout.write(
    `${['case'.padEnd(38), ...HEADINGS.map(heading => heading.padStart(9))].join(' ')}\n`
  )
  const results = await Promise.allSettled(
    names.map(async name => {
      process.stdout.write(`${await measure(name)}\n`)
    })
  )
  for (const { reason } of results)
    if (reason !== undefined) process.stderr.write(`${reason.stack}\n`)
  if (results.some(({ status }) => status === 'rejected')) process.exitCode = 1
}
