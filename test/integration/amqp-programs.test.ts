/** Programs of others, unchanged: the tutorials' patterns with pika, kombu, librabbitmq's tools. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { PYTHON, requireProgram } from '../support/require.ts'
import { run, start } from '../support/run.ts'

const SUPPORT = join(import.meta.dirname, '..', 'support')
const PATTERNS = [
  'hello',
  'work_queues',
  'publish_subscribe',
  'routing',
  'topics',
  'rpc',
  'confirms_single',
  'confirms_batch',
  'confirms_asynchronous'
]

let program: Program

beforeAll(async () => {
  program = await Program.start({ listen: ['amqp://127.0.0.1:0'] })
})

afterAll(async () => {
  await program.remove()
})

const port = () => String(program.port('amqp'))
const url = () => `amqp://guest:guest@127.0.0.1:${port()}`

requireProgram('python3:pika')('pika', () => {
  it.each(PATTERNS)("the tutorials' pattern %s", async name => {
    expect(await run(PYTHON, [join(SUPPORT, 'amqp_tutorials.py'), port(), name])).toBe(`${name}\n`)
  })
})

requireProgram('python3:kombu')('kombu', () => {
  it('declares, publishes, consumes and gives back', async () => {
    expect(await run(PYTHON, [join(SUPPORT, 'amqp_kombu.py'), port(), 'rounds'])).toBe('ok\n')
  })

  it('goes on with its consumers, producers and simple queues when the broker is killed', async () => {
    const running = start(PYTHON, [join(SUPPORT, 'amqp_kombu.py'), port(), 'reconnects'])
    await running.saw('kill it')
    await program.kill()
    await program.restart()
    const { code, stdout, stderr } = await running.result
    expect({ code, stdout, stderr }).toMatchObject({ code: 0, stdout: 'kill it\nok\n' })
  })
})

requireProgram('amqp-declare-queue')("librabbitmq's tools", () => {
  it('declare a queue, publish to it, get from it, consume from it and delete it', async () => {
    const to = ['-u', url()]
    expect(await run('amqp-declare-queue', [...to, '-q', 'tools', '-d'])).toBe('tools\n')
    await run('amqp-publish', [...to, '-r', 'tools', '-p', '-C', 'text/plain', '-b', 'one'])
    expect(await run('amqp-get', [...to, '-q', 'tools'])).toBe('one')
    expect((await start('amqp-get', [...to, '-q', 'tools']).result).code).toBe(2)
    for (const body of ['two', 'three']) {
      await run('amqp-publish', [...to, '-r', 'tools', '-b', body])
    }
    const consume = [...to, '-q', 'tools', '-c', '2', '-p', '1', 'cat']
    expect(await run('amqp-consume', consume)).toBe('twothree')
    expect(await run('amqp-delete-queue', [...to, '-q', 'tools'])).toBe('0\n')
  })

  it('consume from a queue of their own that is bound to an exchange', async () => {
    const to = ['-u', url()]
    const words = ['-e', 'amq.topic', '-r', 'tools.#', '-c', '2', 'cat']
    const consuming = start('amqp-consume', [...to, ...words])
    await consuming.said('amq.gen-')
    for (const body of ['a', 'b']) {
      await run('amqp-publish', [...to, '-e', 'amq.topic', '-r', 'tools.x', '-b', body])
    }
    expect((await consuming.result).stdout).toBe('ab')
  })

  it('are told why something is refused', async () => {
    const { code, stderr } = await start('amqp-get', ['-u', url(), '-q', 'none']).result
    expect(code).toBe(1)
    expect(stderr).toContain("NOT_FOUND - no queue 'none' in vhost '/'")
  })
})
