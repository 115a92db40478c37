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

  function environment(): Record<string, string> {
    return {
      CELERY_BROKER: `amqp://guest:guest@127.0.0.1:${program.port('amqp')}//`,
      CELERY_BACKEND: 'rpc://',
      CELERY_FOLDER: folder,
      PYTHONPATH: SUPPORT,
      PYTHONDONTWRITEBYTECODE: '1'
    }
  }

  async function startWorker(name: string): Promise<Running> {
    const words = ['-m', 'celery', '-A', 'amqp_celery', 'worker', '-c', '2']
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
    await startWorker('first')
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
  })

  it('gives the task of a worker that was killed to another one', async () => {
    await step('slow')
    workers[0]!.kill()
    await startWorker('second')
    await step('slow_done')
  })

  it('does every task although the broker is killed and starts again', async () => {
    await step('batch')
    await program.kill()
    await program.restart()
    await step('batch_done')
  })
})
