/**
 * How fast a bridge drains a backlog into a RabbitMQ, with confirms, beside a bare loop over the same client library:
 * `node test/bench/bridge.mjs amqp://guest:guest@127.0.0.1:5672 [messages] [rounds]`, with a built project. The two run in
 * turns; 100 bytes of payload, a durable queue at the far side, 1,000 on their way. One line of JSON a run: messages a
 * second from the first confirm to the last, processor time and memory of the sending process.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connectAsync } from 'mqtt'
import { Connection } from 'rabbitmq-client'
import { askBroker } from '../../dist/cli/ask-broker.js'

const PROGRAM = fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))
const [far = '', count = '200000', rounds = '2', role = ''] = process.argv.slice(2)
const messages = Number(count)
const payload = Buffer.alloc(100, 'x')
const WINDOW = 1_000

const wait = ms => new Promise(resolve => setTimeout(resolve, ms))

function usageOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  const ticks = Number(fields[11]) + Number(fields[12])
  return { cpuSeconds: ticks / 100, rssMb: Math.round((Number(fields[21]) * 4096) / 2 ** 20) }
}

/** In a process of its own: publishes with a window, as any program would. */
async function bare() {
  const connection = new Connection({ url: far, frameMax: 131_072 })
  const publisher = connection.createPublisher({ confirm: true })
  const envelope = { exchange: 'amq.topic', routingKey: 'bench.a', durable: true }
  await publisher.send(envelope, payload)
  const before = usageOf(process.pid)
  const started = performance.now()
  let left = messages
  const one = async () => {
    while (left-- > 0) await publisher.send(envelope, payload)
  }
  await Promise.all(Array.from({ length: WINDOW }, one))
  const seconds = (performance.now() - started) / 1_000
  const after = usageOf(process.pid)
  const cpuUs = ((after.cpuSeconds - before.cpuSeconds) * 1e6) / messages
  print('bare', seconds, cpuUs, after.rssMb)
  await publisher.close()
  await connection.close()
}

function print(who, seconds, cpuUs, rssMb) {
  const perSecond = Math.round(messages / seconds)
  console.log(JSON.stringify({ who, messages, perSecond, cpuUs: Number(cpuUs.toFixed(1)), rssMb }))
}

async function bridge() {
  const cwd = mkdtempSync(join(tmpdir(), 'motemq-bench-'))
  const yaml = `data: d\nlisteners: ['mqtt://127.0.0.1:0']\nbridges:\n- { name: b, url: "${far}", topics: ['bench/#'] }\n`
  writeFileSync(join(cwd, 'motemq.yaml'), yaml)
  const broker = spawn(process.execPath, [PROGRAM], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  let log = ''
  broker.stdout.on('data', bytes => {
    log += bytes
  })
  while (!log.includes('"ready"')) await wait(20)
  const { urls } = JSON.parse(log.split('\n').find(line => line.includes('"ready"')))
  const ask = (method, path) => askBroker(join(cwd, 'd'), method, path, null)
  await ask('POST', '/api/bridges/b/pause')
  const device = await connectAsync(urls[0])
  for (let sent = 0; sent < messages; ) {
    const batch = Math.min(2_000, messages - sent)
    const acks = Array.from({ length: batch }, () =>
      device.publishAsync('bench/a', payload, { qos: 1 })
    )
    await Promise.all(acks)
    sent += batch
  }
  await device.endAsync()
  const status = async () => (await ask('GET', '/api/bridges'))[0]
  const before = usageOf(broker.pid)
  await ask('POST', '/api/bridges/b/resume')
  while ((await status()).confirmedTotal === 0) await wait(5)
  const started = performance.now()
  let peakMb = 0
  for (;;) {
    await wait(50)
    peakMb = Math.max(peakMb, usageOf(broker.pid).rssMb)
    if ((await status()).confirmedTotal >= messages) break
  }
  const seconds = (performance.now() - started) / 1_000
  const cpuUs = ((usageOf(broker.pid).cpuSeconds - before.cpuSeconds) * 1e6) / messages
  print('bridge', seconds, cpuUs, peakMb)
  broker.kill('SIGTERM')
  await once(broker, 'close')
  rmSync(cwd, { recursive: true, force: true })
}

async function alone() {
  const words = [fileURLToPath(import.meta.url), far, count, rounds, 'bare']
  await once(spawn(process.execPath, words, { stdio: 'inherit' }), 'close')
}

if (role === 'bare') await bare()
else {
  const connection = new Connection(far)
  const queue = 'bench-bridge'
  await connection.queueDeclare({ queue, durable: true })
  await connection.queueBind({ queue, exchange: 'amq.topic', routingKey: 'bench.#' })
  for (let round = 0; round < Number(rounds); round++) {
    for (const run of [alone, bridge]) {
      await connection.queuePurge(queue)
      await run()
      await wait(2_000)
      const { messageCount } = await connection.queueDeclare({ queue, passive: true })
      if (messageCount < messages) console.log(JSON.stringify({ missing: messages - messageCount }))
    }
  }
  await connection.queueDelete(queue)
  await connection.close()
}
