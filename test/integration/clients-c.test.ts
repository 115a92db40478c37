/** The C libraries that devices and gateways use, libpaho and libmosquitto: small programs, compiled here. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Program } from '../support/program.ts'
import { findProgram, requiresAll } from '../support/require.ts'
import { run } from '../support/run.ts'

const LIBRARIES = [
  ['libpaho', 'paho-client', 'paho-mqtt3a', 'MQTTAsync.h', 'libpaho-mqtt-dev'],
  ['libmosquitto', 'mosquitto-client', 'mosquitto', 'mosquitto.h', 'libmosquitto-dev']
] as const

let program: Program
let folder: string
const clients: MqttClient[] = []
const children: ChildProcess[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'motemq-c-'))
  program = await Program.start()
})
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  await Promise.all(clients.map(client => client.endAsync(true)))
  await program.remove()
  rmSync(folder, { recursive: true, force: true })
})

async function open(clientId: string, clean = true): Promise<MqttClient> {
  const client = await connectAsync(program.url('mqtt').href, { clientId, clean })
  client.on('error', () => undefined)
  clients.push(client)
  return client
}

/** A client of the process, as lines, and its standard input. */
function startClient(words: readonly string[]) {
  const [command = '', ...rest] = words
  const child = spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'] })
  children.push(child)
  let output = ''
  child.stdout.on('data', chunk => {
    output += String(chunk)
  })
  const saw = (text: string) =>
    expect.poll(() => output, { timeout: 20_000, interval: 10 }).toContain(text)
  return { child, saw }
}

const seen = (client: MqttClient, topic: string) => {
  const texts: string[] = []
  client.on('message', (found, payload) => {
    if (found === topic) texts.push(String(payload))
  })
  return texts
}

for (const [library, name, link, header, debian] of LIBRARIES) {
  const isThere = findProgram('gcc') !== null && existsSync(`/usr/include/${header}`)
  if (!isThere && requiresAll) throw new Error(`${library} is required: apt-get install ${debian}`)
  const title = isThere ? library : `${library} (needs ${debian})`

  describe.skipIf(!isThere)(title, () => {
    const binary = () => join(folder, name)

    beforeAll(() => {
      const source = fileURLToPath(new URL(`../support/${name}.c`, import.meta.url))
      const words = ['-O1', '-Wall', '-Werror', '-o', binary(), source, `-l${link}`]
      const { status, stderr } = spawnSync('gcc', words, { encoding: 'utf8' })
      expect(stderr).toBe('')
      expect(status).toBe(0)
    })

    describe.each(['4', '5'])('at protocol version %s', version => {
      const words = (...rest: string[]) => [String(program.port('mqtt')), version, ...rest]
      const runClient = (...rest: string[]) => run(binary(), words(...rest))

      it('gets its own messages at every QoS', async () => {
        const lines = (await runClient('qos')).trim().split('\n').sort()
        expect(lines).toEqual(['c/qos/0 0 0 hello', 'c/qos/1 1 0 hello', 'c/qos/2 2 0 hello'])
      })

      it('reads what is retained, and takes it away', async () => {
        expect(await runClient('retained')).toBe('c/kept 1 1 kept\nc/kept 1 0 \n')
      })

      it('leaves its will when it is gone without a word', async () => {
        const watcher = await open(`watcher-${name}-${version}`)
        const texts = seen(watcher, 'c/will')
        await watcher.subscribeAsync('c/will', { qos: 1 })
        expect(await runClient('will')).toBe('connected\n')
        await expect.poll(() => texts, { timeout: 10_000 }).toEqual(['gone'])
      })

      it('finds its session, and all that waited, behind a kill -9 of the program', async () => {
        await runClient('leave')
        const publisher = await open(`publisher-${name}-${version}`)
        const numbers = Array.from({ length: 20 }, (_, index) => index)
        for (const n of numbers)
          await publisher.publishAsync('c/away', `${n}`, { qos: n % 2 ? 1 : 2 })
        await publisher.endAsync()
        await program.kill()
        await program.restart()
        const lines = (await runClient('return')).trim().split('\n')
        const got = lines.map(line => Number(line.split(' ').at(-1)))
        // Each QoS has its order; libpaho shows a QoS 2 message when its PUBREL has come.
        expect(got.filter(n => n % 2 === 1)).toEqual(numbers.filter(n => n % 2 === 1))
        expect(got.filter(n => n % 2 === 0)).toEqual(numbers.filter(n => n % 2 === 0))
      })

      it('buffers while the program is away, comes back, and delivers everything', async () => {
        const total = 500
        const watcher = await open(`collector-${name}-${version}`, false)
        const texts = seen(watcher, 'c/offline')
        await watcher.subscribeAsync('c/offline', { qos: 2 })
        const { child, saw } = startClient([binary(), ...words('offline', String(total))])
        await saw('connected')
        await program.kill()
        child.stdin.write('go\n')
        await saw('buffered')
        await program.restart()
        await saw(`lost 1 sent ${total}`)
        const [code] = child.exitCode === null ? await once(child, 'close') : [child.exitCode]
        expect(code).toBe(0)
        const all = Array.from({ length: total }, (_, index) => `${index}`)
        await expect.poll(() => new Set(texts).size, { timeout: 20_000 }).toBe(total)
        // First copies come in order; QoS 2 in one copy each.
        const first = [...new Set(texts)]
        expect(first).toEqual(all)
        if (library === 'libmosquitto') expect(texts).toEqual(all)
      })
    })
  })
}
