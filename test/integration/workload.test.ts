/** The load and the checker tried on a broker that is known: Mosquitto keeps its promises until it is killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { checkHistory, describeViolations } from '../support/checker.ts'
import { History } from '../support/history.ts'
import { seededRandom } from '../support/random.ts'
import { findProgram, requireProgram } from '../support/require.ts'
import { Workload } from '../support/workload.ts'

const seed = 7

let folder: string
let port: number
let broker: ChildProcess

async function startBroker(): Promise<void> {
  broker = spawn(findProgram('mosquitto')!, ['-c', join(folder, 'conf')], { stdio: 'ignore' })
  for (let attempt = 0; attempt < 200; attempt++) {
    const isUp = await new Promise<boolean>(resolve => {
      const socket = connect(port, '127.0.0.1')
      socket.on('connect', () => resolve(socket.end() !== undefined))
      socket.on('error', () => resolve(false))
    })
    if (isUp) return
    await new Promise(resolve => setTimeout(resolve, 25))
  }
  throw new Error('mosquitto does not start')
}

async function killBroker(): Promise<void> {
  const gone = new Promise(resolve => broker.once('close', resolve))
  broker.kill('SIGKILL')
  await gone
}

const wait = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

requireProgram('mosquitto')('the mixed load on Mosquitto', () => {
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'motemq-mosquitto-'))
    port = await freePort()
    const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'user root']
    lines.push('max_queued_messages 0', 'max_inflight_messages 0')
    writeFileSync(join(folder, 'conf'), `${lines.join('\n')}\n`)
    await startBroker()
  })

  afterEach(async () => {
    await killBroker()
    rmSync(folder, { recursive: true, force: true })
  })

  it('passes the checker as long as nobody kills it', async () => {
    const history = new History('quiet')
    const workload = new Workload(history, seededRandom(seed))
    for (let round = 0; round < 3; round++) {
      await workload.connect({ mqtt: port, amqp: null }, round !== 1)
      workload.start()
      await wait(300)
      if (round === 2) await workload.drain()
      workload.cut()
    }
    const { violations, stats } = checkHistory(history.events)
    expect(describeViolations(violations)).toBe('')
    expect(stats.received).toBeGreaterThan(stats.acked)
  })

  it('is found to lose sessions and retained values when it is killed', async () => {
    const history = new History('killed')
    const workload = new Workload(history, seededRandom(seed))
    await workload.connect({ mqtt: port, amqp: null }, true)
    workload.start()
    await wait(400)
    history.record({ f: 'crash', type: 'info', proc: 'broker', how: 'kill' })
    await killBroker()
    workload.cut()
    await startBroker()
    history.record({ f: 'start', type: 'ok', proc: 'broker' })
    await workload.connect({ mqtt: port, amqp: null }, true)
    await workload.drain()
    workload.cut()
    const rules = new Set(checkHistory(history.events).violations.map(({ rule }) => rule))
    expect(rules).toContain('session')
    expect(rules).toContain('stale-retained')
  })
})
