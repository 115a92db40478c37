/** `motemq start`: runs the broker until a signal stops it. */
import { setFlagsFromString } from 'node:v8'
import type { Logger } from 'pino'
import { type LoadInput, loadOptions } from '../config/load.ts'
import { BrokerError } from '../core/errors.ts'
import { VERSION } from '../lib/version.ts'
import type { RunningServer } from '../server.ts'
import { banner, programName } from './banner.ts'
import { EXIT_BUG, EXIT_FAILED, EXIT_OK, EXIT_USAGE, endingOf, printLines } from './exit.ts'
import { type OpenLog, openLog } from './log.ts'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const
/** A second signal this soon is the same wish; a later one means: at once. */
const SAME_SIGNAL_MS = 1_000

/** Resolves when it runs; the process then ends by itself. @throws ConfigError before anything starts */
export async function start(input: LoadInput): Promise<void> {
  const { options, warnings, files } = await loadOptions(input)
  const isTerminal = process.stdout.isTTY === true
  const opened = openLog(options.log, isTerminal)
  const { log } = opened
  for (const warning of warnings) log.warn(warning)
  log.debug({ files }, 'config read')
  const life = new Life(opened, input)
  life.watch(isTerminal || process.stdin.isTTY === true)
  try {
    const startServer = await importServer()
    const server = await startServer(options, log)
    if (!life.attach(server)) return
    log.info(
      { urls: server.urls, version: VERSION, data: options.data, recovery: server.recovery },
      'ready'
    )
    if (isTerminal && options.log.format !== 'json') {
      opened.flush()
      const program = programName(
        process.argv[1] ?? 'motemq',
        process.env['PATH'] ?? '',
        process.cwd()
      )
      process.stdout.on('error', () => undefined)
      process.stdout.write(banner(options, server, program))
    }
  } catch (error) {
    opened.flush()
    const { exitCode, lines } = endingOf(error)
    printLines(lines)
    // The file asks for a queue that is there with other arguments: the file is to be mended.
    const isMistake = error instanceof BrokerError && error.code === 'preconditionFailed'
    process.exit(isMistake ? EXIT_USAGE : exitCode)
  }
}

/**
 * Imported here: other commands do without the broker. Each collection meanwhile is one of everything: what only
 * loading needed would else be taken for old, and stay resident for as long as the broker has little to do (2 MB).
 */
async function importServer(): Promise<typeof import('../server.ts')['startServer']> {
  setFlagsFromString('--gc-global')
  try {
    const { startServer } = await import('../server.ts')
    return startServer
  } finally {
    setFlagsFromString('--no-gc-global')
  }
}

/** From the first signal to the exit code. */
class Life {
  readonly #opened: OpenLog
  readonly #log: Logger
  #server: RunningServer | null = null
  #isStopping = false
  #stoppingSinceMs = 0
  readonly #input: LoadInput
  /** The reload that is under way, and those that were asked for meanwhile. */
  #reloading: Promise<void> = Promise.resolve()

  constructor(opened: OpenLog, input: LoadInput) {
    this.#opened = opened
    this.#log = opened.log
    this.#input = input
  }

  /** SIGHUP is what a terminal that is closed says, and to a daemon what its operator says: read the files again. */
  watch(hasTerminal: boolean): void {
    for (const signal of SIGNALS) process.on(signal, () => this.#onSignal(signal))
    process.on('SIGHUP', () => {
      if (hasTerminal) this.#onSignal('SIGHUP')
      else this.#reloading = this.#reloading.then(() => this.#reload())
    })
    // A bug: the state cannot be trusted any more, the supervisor starts us again.
    process.on('uncaughtException', error => {
      this.#log.fatal({ err: error }, 'bug')
      this.#exit(EXIT_BUG)
    })
  }

  /** The server runs; false when a signal came before: it is being stopped. */
  attach(server: RunningServer): boolean {
    this.#server = server
    if (!this.#isStopping) return true
    this.#stop(server)
    return false
  }

  /** A mistake in the files is logged, and what holds goes on. */
  async #reload(): Promise<void> {
    const server = this.#server
    if (server === null || this.#isStopping) return
    try {
      const { options, warnings, files } = await loadOptions(this.#input)
      for (const warning of warnings) this.#log.warn(warning)
      const restart = await server.reload(options)
      // Connections that are open have loggers of their own: theirs stays.
      this.#log.level = options.log.level
      this.#log.info({ files }, 'configuration reloaded')
      if (restart.length > 0) this.#log.warn({ options: restart }, 'these need a restart')
    } catch (error) {
      const { exitCode, lines } = endingOf(error)
      if (exitCode === EXIT_BUG) throw error
      this.#log.error({ mistakes: lines }, 'configuration not reloaded: the old one goes on')
    }
  }

  #onSignal(signal: string): void {
    if (this.#isStopping) {
      // Ctrl-C under npm comes twice: from the terminal, and handed on by npm.
      if (performance.now() - this.#stoppingSinceMs < SAME_SIGNAL_MS) return
      this.#log.warn({ signal }, 'stopped at once')
      this.#exit(EXIT_FAILED)
    }
    this.#isStopping = true
    this.#stoppingSinceMs = performance.now()
    this.#log.info({ signal }, 'stopping')
    if (this.#server !== null) this.#stop(this.#server)
  }

  #stop(server: RunningServer): void {
    server.close().then(
      () => {
        this.#log.info('stopped')
        this.#exit(EXIT_OK)
      },
      (error: unknown) => {
        this.#log.error({ err: error }, 'stopped with an error')
        this.#exit(EXIT_FAILED)
      }
    )
  }

  #exit(code: number): never {
    this.#opened.flush()
    process.exit(code)
  }
}
