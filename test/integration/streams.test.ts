/** Streams with Debian's pika against the started program, which is killed between the two. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { requireProgram } from '../support/require.ts'
import { startPython } from '../support/run.ts'

const COMMON = `
import sys, pika
connection = pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', int(sys.argv[1])))
channel = connection.channel()
arguments = {'x-queue-type': 'stream', 'x-max-age': '7D', 'x-max-length-bytes': 2000000000}
channel.queue_declare('readings', durable=True, arguments=arguments)
`

const SEND = `${COMMON}
channel.queue_bind('readings', 'amq.topic', 'sensors.#')
channel.confirm_delivery()
for number in range(500):
    channel.basic_publish('amq.topic', 'sensors.a', str(number), pika.BasicProperties(delivery_mode=2))
connection.close()
`

const RECEIVE = `${COMMON}
channel.basic_qos(prefetch_count=20)
got = []
def on_message(ch, method, properties, body):
    assert str(properties.headers['x-stream-offset']) == body.decode()
    got.append(int(body))
    ch.basic_ack(method.delivery_tag)
    if got[-1] == 499: ch.stop_consuming()
offset = sys.argv[2] if sys.argv[2].isalpha() else int(sys.argv[2])
channel.basic_consume('readings', on_message, arguments={'x-stream-offset': offset})
channel.start_consuming()
print(got[0], got[-1], len(got), got == sorted(got))
connection.close()
`

let program: Program

beforeAll(async () => {
  program = await Program.start()
})

afterAll(async () => {
  await program.remove()
})

async function python(script: string, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await startPython(script, [program.port('amqp'), ...words])
    .result
  expect(stderr).toBe('')
  expect(code).toBe(0)
  return stdout.trim()
}

requireProgram('python3:pika')('pika', () => {
  it('reads what it sent to a stream, as often as it likes, also behind a killed broker', async () => {
    await python(SEND)
    expect(await python(RECEIVE, 'first')).toBe('0 499 500 True')
    await program.kill()
    await program.restart()
    expect(await python(RECEIVE, 'first')).toBe('0 499 500 True')
    expect(await python(RECEIVE, '480')).toBe('480 499 20 True')
    expect(await python(RECEIVE, 'last')).toBe('499 499 1 True')
  })
})
