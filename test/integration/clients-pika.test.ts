/** Debian's pika and the programs of librabbitmq against the started program. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { requireProgram } from '../support/require.ts'
import { run, startPython } from '../support/run.ts'

const COMMON = `
import sys, pika
credentials = pika.PlainCredentials('guest', 'guest')
parameters = pika.ConnectionParameters('127.0.0.1', int(sys.argv[1]), credentials=credentials)
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
`

const PUBLISH = `${COMMON}
channel.queue_declare('pika.work', durable=True)
channel.queue_bind('pika.work', 'amq.topic', 'pika.#')
channel.confirm_delivery()
persistent = pika.BasicProperties(delivery_mode=2, headers={'n': 1})
for number in range(50):
    channel.basic_publish('amq.topic', 'pika.%d' % number, str(number), persistent, mandatory=True)
try:
    channel.basic_publish('amq.topic', 'nobody', 'x', persistent, mandatory=True)
    print('accepted')
except pika.exceptions.UnroutableError:
    print('unroutable')
connection.close()
`

const CONSUME = `${COMMON}
channel.basic_qos(prefetch_count=7)
got = []
for method, properties, body in channel.consume('pika.work', inactivity_timeout=10):
    assert method is not None, got
    got.append('%s=%s' % (method.routing_key, body.decode()))
    channel.basic_ack(method.delivery_tag)
    if len(got) == 50: break
channel.cancel()
print(' '.join(got))
print(channel.queue_declare('pika.work', passive=True).method.message_count)
connection.close()
`

let program: Program

beforeAll(async () => {
  program = await Program.start()
})

afterAll(async () => {
  await program.remove()
})

async function python(script: string): Promise<string> {
  const { code, stdout, stderr } = await startPython(script, [program.port('amqp')]).result
  expect(stderr).toBe('')
  expect(code).toBe(0)
  return stdout.trim()
}

requireProgram('python3:pika')('pika', () => {
  it('publishes with confirms, and consumes with acknowledgements after a restart', async () => {
    expect(await python(PUBLISH)).toBe('unroutable')
    await program.stop()
    await program.restart()
    const expected = Array.from({ length: 50 }, (_, number) => `pika.${number}=${number}`).join(' ')
    expect(await python(CONSUME)).toBe(`${expected}\n0`)
  })
})

requireProgram('amqp-publish')('the programs of amqp-tools', () => {
  it('declare, publish and get', async () => {
    const server = [`--server=127.0.0.1`, `--port=${program.port('amqp')}`]
    await run('amqp-declare-queue', [...server, '-d', '-q', 'tools.work'])
    await run('amqp-publish', [...server, '-r', 'tools.work', '-p', '-b', 'hello'])
    expect(await run('amqp-get', [...server, '-q', 'tools.work'])).toBe('hello')
  })
})
