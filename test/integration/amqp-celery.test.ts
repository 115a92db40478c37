/** Celery, unchanged: its workers' calls, retries and results, a worker that is killed, and a broker that restarts. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { PYTHON, requireProgram } from '../support/require.ts'
import { type Running, start } from '../support/run.ts'

const SUPPORT = join(import.meta.dirname, '..', 'support')
const APPLICATION = join(SUPPORT, 'amqp_celery.py')

requireProgram('python3:celery')('Celery', () => {
  let program: Program
  let folder: string
  const workers: Running[] = []

  /** Chords need results that stay. */
  let backend = 'rpc://'

  function environment(): Record<string, string> {
    return {
      CELERY_BROKER: `amqp://guest:guest@127.0.0.1:${program.port('amqp')}//`,
      CELERY_BACKEND: backend,
      CELERY_FOLDER: folder,
      PYTHONPATH: SUPPORT,
      PYTHONDONTWRITEBYTECODE: '1'
    }
  }

  async function startWorker(name: string, processes: string): Promise<Running> {
    const words = [
      '-m',
      'celery',
      '-A',
      'amqp_celery',
      'worker',
      '-c',
      processes,
      '-E',
      '-Q',
      'celery'
    ]
    const worker = start(PYTHON, [...words, '-n', `${name}@test`, '-l', 'INFO'], {
      timeoutMs: 120_000,
      env: environment(),
      isGroup: true
    })
    workers.push(worker)
    await worker.said('ready.')
    return worker
  }

  async function step(name: string): Promise<void> {
    const options = { timeoutMs: 60_000, env: environment() }
    const { code, stdout, stderr } = await start(PYTHON, [APPLICATION, name], options).result
    if (code !== 0) throw new Error(`${name}: exit ${code}: ${stderr}`)
    expect(stdout).toBe('ok\n')
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'motemq-celery-'))
    program = await Program.start({ listen: ['amqp://127.0.0.1:0'] })
    await startWorker('first', '2')
  })

  afterAll(async () => {
    for (const worker of workers) worker.kill()
    await program.remove()
    rmSync(folder, { recursive: true, force: true })
  })

  it('calls tasks and gets their results over rpc://', async () => {
    await step('calls')
  })

  it('keeps a countdown and tries again, while others are served', async () => {
    await step('later')
  })

  it('controls its workers', async () => {
    await step('controls')
    const words = ['-m', 'celery', '-A', 'amqp_celery', 'inspect', 'ping']
    const options = { timeoutMs: 60_000, env: environment() }
    const { stdout } = await start(PYTHON, words, options).result
    expect(stdout).toContain('first@test: OK')
    expect(stdout).toContain('1 node online.')
  })

  it('tells what becomes of its tasks as events', async () => {
    await step('events')
  })

  it('gives the task of a worker that was killed to another one', async () => {
    await step('slow')
    workers[0]!.kill()
    backend = `file://${folder}`
    await startWorker('second', '1')
    await step('slow_done')
  })

  it('does the urgent tasks first', async () => {
    await step('priorities')
  })

  it("does a chord's body when all of its header is done", async () => {
    await step('chords')
  })

  it('does every task although the broker is killed and starts again', async () => {
    await step('batch')
    await program.kill()
    await program.restart()
    await step('batch_done')
  })
})
