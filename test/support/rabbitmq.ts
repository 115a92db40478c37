/** A RabbitMQ of its own: Debian's, as a private, plain process on free ports in a folder that goes with it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from './free-port.ts'

const BIN = '/usr/lib/rabbitmq/bin'
const START_MS = 90_000
const run = promisify(execFile)

export class RabbitMq {
  readonly port: number
  readonly folder: string
  readonly #environment: NodeJS.ProcessEnv
  readonly #children: ChildProcess[] = []

  private constructor(port: number, folder: string, environment: NodeJS.ProcessEnv) {
    this.port = port
    this.folder = folder
    this.#environment = environment
  }

  static async start(): Promise<RabbitMq> {
    const [port, distPort, epmdPort] = [await freePort(), await freePort(), await freePort()]
    const folder = mkdtempSync(join(tmpdir(), 'motemq-rabbit-'))
    for (const name of ['mnesia', 'log', 'home']) mkdirSync(join(folder, name))
    writeFileSync(join(folder, 'advanced.config'), '[].')
    writeFileSync(join(folder, 'plugins'), '[].')
    writeFileSync(join(folder, 'rabbitmq.conf'), `listeners.tcp.local = 127.0.0.1:${port}\n`)
    const rabbit = new RabbitMq(port, folder, {
      ...process.env,
      PATH: `${BIN}:${process.env['PATH']}`,
      HOME: join(folder, 'home'),
      RABBITMQ_NODENAME: `test${port}@localhost`,
      RABBITMQ_MNESIA_BASE: join(folder, 'mnesia'),
      RABBITMQ_LOG_BASE: join(folder, 'log'),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, 'advanced.config'),
      RABBITMQ_CONFIG_FILE: join(folder, 'rabbitmq.conf'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, 'plugins'),
      RABBITMQ_PID_FILE: join(folder, 'pid'),
      RABBITMQ_DIST_PORT: String(distPort),
      ERL_EPMD_PORT: String(epmdPort),
      ERL_EPMD_ADDRESS: '127.0.0.1'
    })
    rabbit.#spawn('epmd', ['-relaxed_command_check', '-port', String(epmdPort)])
    rabbit.#spawn(join(BIN, 'rabbitmq-server'), [])
    await rabbit.#listening()
    return rabbit
  }

  #spawn(program: string, words: readonly string[]): void {
    const options = { env: this.#environment, stdio: 'ignore', detached: true } as const
    this.#children.push(spawn(program, words, options))
  }

  async #listening(): Promise<void> {
    const until = Date.now() + START_MS
    for (;;) {
      const socket = connect(this.port, '127.0.0.1')
      const isUp = await Promise.race([
        once(socket, 'connect').then(
          () => true,
          () => false
        )
      ])
      socket.destroy()
      if (isUp) return
      if (Date.now() > until) throw new Error('RabbitMQ does not listen')
      await new Promise(resolve => setTimeout(resolve, 200))
    }
  }

  /** Runs `rabbitmqctl`; rejects when it fails. */
  async ctl(...words: string[]): Promise<string> {
    const options = { env: this.#environment, timeout: START_MS }
    const { stdout } = await run(join(BIN, 'rabbitmqctl'), words, options)
    return stdout
  }

  async stop(): Promise<void> {
    for (const child of this.#children.reverse()) {
      if (child.exitCode !== null || child.pid === undefined) continue
      // Erlang's processes are in the group of the script that started them.
      process.kill(-child.pid, 'SIGKILL')
      await once(child, 'exit')
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 })
  }
}
