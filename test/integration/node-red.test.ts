/**
 * Node-RED 4, installed from npm: a flow with a persistent MQTT 5 session, over a broker that is killed. Of the full
 * tier, since its installation is 117 MB; `MOTEMQ_NODE_RED` names a folder that has one already.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { Program } from '../support/program.ts'
import { requiresAll } from '../support/require.ts'
import { Installation } from '../support/tarball.ts'

const NODE_RED = 'node-red@4.1.15'
const SLOW_MS = 240_000
/** So long Node-RED stays away when it has lost the broker: time enough to restart it and to publish. */
const AWAY_MS = 3_000
const COUNT = 20

const ready = process.env['MOTEMQ_NODE_RED'] ?? ''

/** What an editor would save: everything below `sensors/` is doubled and published below `doubled/`. */
function flowOf(port: number): object[] {
  const broker = {
    id: 'broker',
    type: 'mqtt-broker',
    broker: '127.0.0.1',
    port: String(port),
    clientid: 'node-red',
    autoConnect: true,
    usetls: false,
    protocolVersion: '5',
    keepalive: '30',
    cleansession: false,
    sessionExpiry: '3600',
    birthTopic: 'node-red/status',
    birthQos: '1',
    birthRetain: 'true',
    birthPayload: 'online',
    willTopic: 'node-red/status',
    willQos: '1',
    willRetain: 'true',
    willPayload: 'offline'
  }
  const wire = (id: string) => [[id]]
  return [
    { id: 'tab', type: 'tab', label: 'test' },
    broker,
    {
      id: 'in',
      z: 'tab',
      type: 'mqtt in',
      topic: 'sensors/#',
      qos: '2',
      datatype: 'utf8',
      broker: 'broker',
      wires: wire('double')
    },
    {
      id: 'double',
      z: 'tab',
      type: 'function',
      func: "msg.topic = msg.topic.replace('sensors', 'doubled'); msg.payload *= 2; return msg",
      outputs: 1,
      wires: wire('out')
    },
    {
      id: 'out',
      z: 'tab',
      type: 'mqtt out',
      qos: '1',
      retain: 'false',
      broker: 'broker',
      wires: []
    }
  ]
}

class NodeRed {
  readonly #folder = mkdtempSync(join(tmpdir(), 'motemq-node-red-'))
  #child: ChildProcess | null = null
  output = ''

  async start(modules: string, port: number): Promise<void> {
    const settings = {
      uiHost: '127.0.0.1',
      uiPort: await freePort(),
      httpAdminRoot: false,
      httpNodeRoot: false,
      mqttReconnectTime: AWAY_MS,
      telemetry: { enabled: false }
    }
    const path = join(this.#folder, 'settings.js')
    writeFileSync(path, `module.exports = ${JSON.stringify(settings)}`)
    writeFileSync(join(this.#folder, 'flow.json'), JSON.stringify(flowOf(port)))
    const program = join(modules, 'node-red', 'red.js')
    const args = [program, '-s', path, '-u', this.#folder, join(this.#folder, 'flow.json')]
    this.#child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on('data', chunk => {
        this.output += String(chunk)
      })
    }
  }

  async remove(): Promise<void> {
    const child = this.#child
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      const gone = new Promise(resolve => child.once('close', resolve))
      child.kill('SIGKILL')
      await gone
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function suite(): void {
  const installation = new Installation()
  const nodeRed = new NodeRed()
  let program: Program
  let client: MqttClient
  const seen = new Map<string, string[]>()

  /** Waits until a topic has so many messages. */
  async function saw(topic: string, count: number): Promise<string[]> {
    for (let attempt = 0; attempt < 600; attempt++) {
      const found = seen.get(topic) ?? []
      if (found.length >= count) return found
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    throw new Error(`${topic}: ${seen.get(topic)?.length ?? 0} of ${count}\n${nodeRed.output}`)
  }

  async function watch(): Promise<void> {
    client = await connectAsync(program.url('mqtt').href, { reconnectPeriod: 0 })
    client.on('error', () => undefined)
    client.on('message', (topic, payload) => {
      seen.set(topic, [...(seen.get(topic) ?? []), String(payload)])
    })
    await client.subscribeAsync(['doubled/#', 'node-red/#'], { qos: 2 })
  }

  beforeAll(async () => {
    if (ready === '') installation.install([NODE_RED])
    program = await Program.start()
    await watch()
    await nodeRed.start(ready === '' ? installation.path() : ready, program.port('mqtt'))
  }, SLOW_MS)

  afterAll(async () => {
    await nodeRed.remove()
    await client.endAsync(true)
    await program.remove()
    installation.remove()
  })

  it(
    'carries messages through a flow, announced by its birth message',
    async () => {
      await saw('node-red/status', 1)
      await client.publishAsync('sensors/a', '21', { qos: 2 })
      expect(await saw('doubled/a', 1)).toEqual(['42'])
    },
    SLOW_MS
  )

  it(
    'finds its session again, with every message since, when the broker was killed',
    async () => {
      await program.kill()
      await program.restart()
      await watch()
      for (let i = 1; i <= COUNT; i++) {
        await client.publishAsync('sensors/b', String(i), { qos: ((i % 2) + 1) as 1 | 2 })
      }
      const doubled = Array.from({ length: COUNT }, (_, i) => String((i + 1) * 2))
      // QoS 2 is handed on later than QoS 1: the order is each one's own.
      const found = await saw('doubled/b', COUNT)
      expect(found.toSorted((a, b) => Number(a) - Number(b))).toEqual(doubled)
      expect(nodeRed.output).toContain('[mqtt-broker:broker] Disconnected from broker')
    },
    SLOW_MS
  )

  it(
    'leaves its will when it is cut off',
    async () => {
      const before = seen.get('node-red/status')!.length
      await nodeRed.remove()
      expect((await saw('node-red/status', before + 1)).at(-1)).toBe('offline')
    },
    SLOW_MS
  )
}

if (ready !== '' || requiresAll) describe('Node-RED', suite)
else {
  describe('Node-RED', () => {
    it('is part of the full tier', () => {
      expect(requiresAll).toBe(false)
    })
  })
}
