/** Debian's Python client, paho-mqtt, against the started program. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { requireProgram } from '../support/require.ts'
import { startPython } from '../support/run.ts'

/** Arguments: port, protocol version, then what the script reads. */
const COMMON = `
import sys, time, threading
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
port, version = int(sys.argv[1]), int(sys.argv[2])
got, ready, done = [], threading.Event(), threading.Event()
def make(name, clean=True, expiry=600):
    client = mqtt.Client(client_id=name, protocol=version, **({} if version == 5 else {'clean_session': clean}))
    def connect():
        if version == 5:
            properties = Properties(PacketTypes.CONNECT)
            if not clean: properties.SessionExpiryInterval = expiry
            client.connect('127.0.0.1', port, clean_start=clean, properties=properties)
        else:
            client.connect('127.0.0.1', port)
        client.loop_start()
    client.go = connect
    return client
`

const ROUND_TRIP = `${COMMON}
client = make('paho-%d' % version)
topics = [('paho/%d/%d' % (version, qos), qos) for qos in (0, 1, 2)]
def on_connect(*_): client.subscribe(topics)
def on_message(_c, _u, message):
    got.append('%s %d %s' % (message.topic, message.qos, message.payload.decode()))
    if len(got) == 3: done.set()
client.on_connect, client.on_message = on_connect, on_message
client.on_subscribe = lambda *_: ready.set()
client.go()
assert ready.wait(10), 'no SUBACK'
for topic, qos in topics: client.publish(topic, 'hello', qos).wait_for_publish(10)
assert done.wait(10), got
print('\\n'.join(sorted(got)))
`

const LEAVE = `${COMMON}
client = make('paho-lasting-%d' % version, clean=False)
client.on_connect = lambda *_: client.subscribe('paho/away/%d' % version, 2)
client.on_subscribe = lambda *_: ready.set()
client.go()
assert ready.wait(10), 'no SUBACK'
client.disconnect()
client.loop_stop()
publisher = make('paho-publisher')
publisher.go()
for number in range(20): publisher.publish('paho/away/%d' % version, str(number), 1 + number % 2).wait_for_publish(10)
publisher.disconnect()
`

const RETURN = `${COMMON}
client = make('paho-lasting-%d' % version, clean=False)
present = []
def on_connect(_c, _u, flags, *_): present.append(flags['session present'])
def on_message(_c, _u, message):
    got.append(message.payload.decode())
    if len(got) == 20: done.set()
client.on_connect, client.on_message = on_connect, on_message
client.go()
assert done.wait(10), got
time.sleep(0.2)
print(present[0], ' '.join(got))
`

const WILL = `${COMMON}
watcher = make('paho-watcher')
watcher.on_connect = lambda *_: watcher.subscribe('paho/will', 1)
watcher.on_subscribe = lambda *_: ready.set()
def on_message(_c, _u, message):
    print(message.topic, message.payload.decode())
    done.set()
watcher.on_message = on_message
watcher.go()
assert ready.wait(10), 'no SUBACK'
victim = make('paho-victim')
victim.will_set('paho/will', 'gone', 1)
connected = threading.Event()
victim.on_connect = lambda *_: connected.set()
victim.go()
assert connected.wait(10), 'no CONNACK'
victim.loop_stop()
import socket
victim.socket().shutdown(socket.SHUT_RDWR)
assert done.wait(10), 'no will'
`

const SHARE = `${COMMON}
counts, members = [0, 0, 0], []
lock = threading.Lock()
def member(at):
    client, granted = make('paho-share-%d-%d' % (version, at)), threading.Event()
    def on_message(_c, _u, message):
        with lock:
            counts[at] += 1
            got.append(int(message.payload))
            if len(got) == 30: done.set()
    client.on_connect = lambda *_: client.subscribe('$share/paho/paho/share/%d' % version, at)
    client.on_message, client.on_subscribe = on_message, lambda *_: granted.set()
    client.go()
    assert granted.wait(10), 'no SUBACK'
    members.append(client)
for at in range(3): member(at)
publisher = make('paho-share-publisher')
publisher.go()
for number in range(30): publisher.publish('paho/share/%d' % version, str(number), number % 3).wait_for_publish(10)
assert done.wait(10), got
time.sleep(0.2)
print(sorted(got) == list(range(30)), min(counts) > 0)
`

let program: Program

beforeAll(async () => {
  program = await Program.start()
})

afterAll(async () => {
  await program.remove()
})

async function python(script: string, version: number): Promise<string> {
  const { code, stdout, stderr } = await startPython(script, [program.port('mqtt'), version]).result
  expect(stderr).toBe('')
  expect(code).toBe(0)
  return stdout.trim()
}

requireProgram('python3:paho.mqtt')('paho-mqtt', () => {
  describe.each([3, 4, 5])('at protocol version %i', version => {
    it('gets its own messages back at every QoS', async () => {
      const expected = [0, 1, 2].map(qos => `paho/${version}/${qos} ${qos} hello`).join('\n')
      expect(await python(ROUND_TRIP, version)).toBe(expected)
    })

    it('shares a subscription', async () => {
      expect(await python(SHARE, version)).toBe('True True')
    })

    it('finds its session and messages after a kill -9', async () => {
      await python(LEAVE, version)
      await program.kill()
      await program.restart()
      const [present, ...numbers] = (await python(RETURN, version)).split(' ')
      // Version 3.1 has no such flag.
      if (version !== 3) expect(Number(present)).toBe(1)
      // paho shows a QoS 2 message only when its PUBREL came: each QoS has its order.
      const odd = (text: string) => Number(text) % 2
      const ordered = Array.from({ length: 10 }, (_, index) => String(index * 2))
      expect(numbers.filter(text => odd(text) === 0)).toEqual(ordered)
      expect(numbers.filter(text => odd(text) === 1)).toEqual(
        ordered.map(text => `${Number(text) + 1}`)
      )
    })
  })

  it.each([3, 4, 5])(
    'has its will published when its connection breaks, at version %i',
    async version => {
      expect(await python(WILL, version)).toBe('paho/will gone')
    }
  )
})
