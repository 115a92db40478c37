/** RabbitMQ's Java client: one small program, compiled here, against the started broker. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { isAvailable, requireProgram } from '../support/require.ts'
import { run, type Running, start } from '../support/run.ts'

const SOURCE = join(import.meta.dirname, '..', 'support', 'java', 'Rounds.java')
/** The client's own threads and heap are small: so are these. */
const FLAGS = ['-Xshare:auto', '-XX:TieredStopAtLevel=1', '-Xmx64m']
const ROUNDS = [
  'workQueue',
  'confirms',
  'refusals',
  'acknowledgements',
  'alternate',
  'deadLetters',
  'priorities',
  'delayed'
]

const CLIENT = '/usr/share/java/amqp-client.jar'
const JARS = [CLIENT, '/usr/share/java/slf4j-api.jar', '/usr/share/java/slf4j-nop.jar']

requireProgram(isAvailable('javac') ? CLIENT : 'javac')('the Java client', () => {
  let program: Program
  let classes: string
  let path: string

  beforeAll(async () => {
    classes = mkdtempSync(join(tmpdir(), 'motemq-java-'))
    path = [...JARS, classes].join(':')
    program = await Program.start({ listen: ['amqp://127.0.0.1:0'] })
    await run('javac', ['-J-XX:TieredStopAtLevel=1', '-cp', path, '-d', classes, SOURCE])
  }, 120_000)

  afterAll(async () => {
    await program.remove()
    rmSync(classes, { recursive: true, force: true })
  })

  function rounds(...names: string[]): Running {
    const words = [...FLAGS, '-cp', path, 'Rounds', String(program.port('amqp')), ...names]
    return start('java', words, { timeoutMs: 120_000 })
  }

  it('does its rounds: work queue, confirms, refusals, acknowledgements, alternate exchange, dead letters, priorities, delays', async () => {
    const { code, stdout, stderr } = await rounds(...ROUNDS).result
    expect(stderr).toBe('')
    expect(stdout.trim().split('\n')).toEqual(ROUNDS)
    expect(code).toBe(0)
  })

  it('recovers its connection, queues, bindings and consumers when the broker is killed', async () => {
    const running = rounds('recovery')
    await running.saw('kill it')
    await program.kill()
    await program.restart()
    const { code, stdout, stderr } = await running.result
    expect({ code, stdout, stderr }).toMatchObject({ code: 0, stdout: 'kill it\nrecovery\n' })
  })
})
