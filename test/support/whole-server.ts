/** The whole broker in this process: a data folder of its own, listeners on free ports, the admin socket. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { askBroker } from '../../src/cli/ask-broker.ts'
import { loadOptions } from '../../src/config/load.ts'
import { type RunningServer, startServer } from '../../src/server.ts'
import { RawAmqp, type RawAmqpOptions } from './raw-amqp.ts'
import { RawMqtt } from './raw-mqtt.ts'

export class WholeServer {
  readonly folder = mkdtempSync(join(tmpdir(), 'motemq-whole-'))
  /** Log lines, parsed. */
  readonly lines: Record<string, unknown>[] = []
  readonly #clients: { destroy(): void }[] = []
  #server: RunningServer | null = null

  /** `yaml`: the config file beside the listeners of `urls`. */
  async start(yaml = '', urls = ['mqtt://127.0.0.1:0', 'amqp://127.0.0.1:0']): Promise<this> {
    const file = join(this.folder, 'motemq.yaml')
    writeFileSync(file, yaml)
    const flags = new Map<string, string | readonly string[]>([['data', join(this.folder, 'd')]])
    if (urls.length > 0) flags.set('listeners', urls)
    const { options } = await loadOptions({
      config: file,
      flags,
      environment: {},
      directory: this.folder
    })
    const log = pino({ level: 'info' }, { write: line => this.lines.push(JSON.parse(line)) })
    this.#server = await startServer(options, log)
    return this
  }

  get running(): RunningServer {
    if (this.#server === null) throw new Error('not started')
    return this.#server
  }

  get data(): string {
    return join(this.folder, 'd')
  }

  /** The port of the listener at this place. */
  port(index: number): number {
    return Number(new URL(this.running.urls[index]!).port)
  }

  async mqtt(index = 0): Promise<RawMqtt> {
    const client = await RawMqtt.dial(this.port(index))
    this.#clients.push(client)
    return client
  }

  /** A TCP connection to an AMQP listener. */
  async dialAmqp(index = 1): Promise<RawAmqp> {
    const client = await RawAmqp.dial(this.port(index))
    this.#clients.push(client)
    return client
  }

  /** A connection that is open, with channel 1 open. */
  async amqp(options: RawAmqpOptions = {}, index = 1): Promise<RawAmqp> {
    const client = await this.dialAmqp(index)
    await client.handshake(options)
    await client.openChannel(1)
    return client
  }

  /** Of the admin API, as commands ask it. */
  ask(method: string, path: string, body: unknown = null): Promise<unknown> {
    return askBroker(this.data, method, path, body)
  }

  async stop(): Promise<void> {
    for (const client of this.#clients.splice(0)) client.destroy()
    await this.#server?.close()
    this.#server = null
  }

  async close(): Promise<void> {
    await this.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }
}
