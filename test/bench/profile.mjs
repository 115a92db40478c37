/**
 * Where the broker's time and its allocations go, scenario by scenario: node test/bench/profile.mjs [scenario ...]
 *
 * Each scenario runs twice against a broker of its own, once under V8's CPU profiler and once under its allocation
 * sampler, with mqload as the load. Prints for each the ten functions with most time of their own, as shares of the
 * time in which the broker was not idle, and the functions that allocate most, in bytes a delivered message. Needs gcc
 * and a built project. `(program)` is time in native code: the kernel's read and write, Node's streams below JavaScript.
 */
import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const SCENARIOS = {
  'fan-in q0': '-P 50 -S 1 -q 0 -w 50',
  'pairs q0': '-P 50 -S 50 -m pair -q 0 -w 50',
  'fan-out q0': '-P 1 -S 100 -q 0 -w 20',
  'fan-in q1': '-P 50 -S 1 -q 1 -w 20',
  'ping-pong q1': '-P 50 -S 50 -m pair -q 1 -w 1',
  'fan-in q2': '-P 20 -S 1 -q 2 -w 10',
  'sparse q0': '-P 200 -S 1 -q 0 -r 2000',
  'durable q1': '-P 50 -S 0 -q 1 -w 20 -s 100'
}
const SECONDS = 4
const TOP = 10
const here = fileURLToPath(new URL('.', import.meta.url))
const root = fileURLToPath(new URL('../..', import.meta.url))
const work = mkdtempSync(join(tmpdir(), 'motemq-profile-'))
const mqload = join(work, 'mqload')

/** The functions of a CPU profile by their own samples; idle ones apart, and those of the profiler itself. */
function samplesByFunction(profile) {
  const nodes = new Map(profile.nodes.map(node => [node.id, node]))
  const own = new Map()
  let total = 0
  for (const id of profile.samples) {
    const { callFrame } = nodes.get(id)
    if (callFrame.functionName === '(idle)' || callFrame.functionName === 'dispatch') continue
    total++
    const name = nameOf(callFrame)
    own.set(name, (own.get(name) ?? 0) + 1)
  }
  return { own, total }
}

/** The functions of an allocation sample by the bytes that they allocated themselves. */
function bytesByFunction(profile) {
  const own = new Map()
  let total = 0
  const visit = node => {
    const bytes = node.selfSize
    if (bytes > 0) {
      const name = nameOf(node.callFrame)
      own.set(name, (own.get(name) ?? 0) + bytes)
      total += bytes
    }
    for (const child of node.children) visit(child)
  }
  visit(profile.head)
  return { own, total }
}

function nameOf({ functionName, url }) {
  const file = url.replace(/^.*\/dist\//, '').replace(/^.*\/node_modules\//, '')
  const name = functionName === '' ? '(anonymous)' : functionName
  return file === '' ? name : `${name} ${file.replace(/\.js$/, '.ts')}`
}

async function run(name, kind) {
  const data = mkdtempSync(join(work, 'data-'))
  const _log = join(data, 'log')
  const file = join(data, 'profile.json')
  const config = join(data, 'motemq.yaml')
  const isDurable = name.startsWith('durable')
  writeFileSync(
    config,
    isDurable ? 'queues:\n  - name: load\n    bindings: ["load/#"]\n' : 'queues: []\n'
  )
  const words = ['start', '--config', config, '--data', join(data, 'store')]
  const broker = spawn(
    process.execPath,
    [
      '--import',
      join(here, 'profile-preload.mjs'),
      'bin/motemq.js',
      ...words,
      '--listen',
      'mqtt://127.0.0.1:0'
    ],
    {
      cwd: root,
      env: { ...process.env, MOTEMQ_PROFILE: file, MOTEMQ_PROFILE_KIND: kind },
      stdio: ['ignore', 'pipe', 'inherit']
    }
  )
  try {
    const port = await portOf(broker)
    const load = seconds => [
      ...['-p', String(port), '-B', String(broker.pid), '-d', String(seconds)],
      ...SCENARIOS[name].split(' ')
    ]
    execFileSync(mqload, load(2), { stdio: 'ignore' })
    const measured = spawn(mqload, load(SECONDS + 2), { stdio: ['ignore', 'pipe', 'ignore'] })
    let printed = ''
    measured.stdout.on('data', chunk => {
      printed += String(chunk)
    })
    const ended = new Promise(resolve => measured.once('close', resolve))
    await sleep(1_500)
    broker.kill('SIGUSR2')
    await sleep(SECONDS * 1_000)
    broker.kill('SIGUSR2')
    await ended
    await sleep(1_000)
    const { recv_s: received, sent_s: sent } = JSON.parse(printed.trim().split('\n').at(-1))
    return {
      profile: JSON.parse(readFileSync(file, 'utf8')),
      messages: (received || sent) * SECONDS
    }
  } finally {
    broker.kill('SIGKILL')
    rmSync(data, { recursive: true, force: true })
  }
}

function portOf(broker) {
  return new Promise((resolve, reject) => {
    let text = ''
    broker.once('close', () => reject(new Error(`the broker ended: ${text}`)))
    broker.stdout.on('data', chunk => {
      text += String(chunk)
      const found = /"ready"/.test(text) && /mqtt:\/\/127\.0\.0\.1:(\d+)/.exec(text)
      if (found) resolve(Number(found[1]))
    })
  })
}

function top({ own }, count) {
  return [...own].sort((a, b) => b[1] - a[1]).slice(0, count)
}

function print(line) {
  process.stdout.write(`${line}\n`)
}

const wanted = process.argv.slice(2)
const names = wanted.length === 0 ? Object.keys(SCENARIOS) : wanted
try {
  execFileSync('gcc', ['-O2', '-w', '-o', mqload, join(here, 'mqload.c')])
  for (const name of names) {
    const cpu = await run(name, 'cpu')
    const time = samplesByFunction(cpu.profile)
    print(`\n${name}: own time, % of the time that is not idle`)
    for (const [what, samples] of top(time, TOP)) {
      print(`  ${((100 * samples) / time.total).toFixed(1).padStart(5)}  ${what}`)
    }
    const heap = await run(name, 'heap')
    const bytes = bytesByFunction(heap.profile)
    print(
      `${name}: allocated, bytes a message (${(bytes.total / heap.messages).toFixed(0)} in all)`
    )
    for (const [what, allocated] of top(bytes, 5)) {
      print(`  ${(allocated / heap.messages).toFixed(1).padStart(7)}  ${what}`)
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true })
}
