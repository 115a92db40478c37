/** A running readers.mjs: clients that read slowly or well, in a process of their own that can be stopped. */
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const SCRIPT = fileURLToPath(new URL('readers.mjs', import.meta.url))

export interface ReaderOptions {
  readonly protocol: 'mqtt' | 'amqp'
  readonly clients: number
  /** Of client ids and queues. */
  readonly prefix: string
  readonly filter: string
  readonly qos?: 0 | 1
  readonly clean?: boolean
  readonly keepaliveSeconds?: number
  /** Of AMQP: x-max-length-bytes. */
  readonly queueBytesMax?: number
  /** Default: the protocol's own. */
  readonly port?: number
}

export interface ReaderReport {
  readonly up: number
  readonly closed: number
  readonly present: number
  /** Different messages, of all clients together. */
  readonly received: number
  readonly least: number
  readonly most: number
  readonly duplicates: number
  /** Messages that came for the first time behind a later one. */
  readonly disorder: number
}

/** Starts programs in the namespace of a broker under load, on the generators' core. */
export function beside(rig: {
  spawn(words: readonly string[]): ChildProcess
}): (words: readonly string[]) => ChildProcess {
  return words => rig.spawn(['taskset', '-c', '1', ...words])
}

export type ReaderCommand = 'slow' | 'read' | 'again' | 'end'

export class Readers {
  readonly child: ChildProcess
  readonly #waiting: ((report: ReaderReport) => void)[] = []
  #stderr = ''

  /** `spawn` starts a program with pipes, wherever its broker is. */
  constructor(spawn: (words: readonly string[]) => ChildProcess, options: ReaderOptions) {
    const all = {
      qos: 0,
      clean: true,
      keepaliveSeconds: 0,
      queueBytesMax: 0,
      port: options.protocol === 'amqp' ? 5672 : 1883,
      ...options
    }
    this.child = spawn([process.execPath, SCRIPT, JSON.stringify(all)])
    this.child.stderr!.on('data', chunk => {
      this.#stderr += String(chunk)
    })
    createInterface({ input: this.child.stdout! }).on('line', line => {
      this.#waiting.shift()?.(JSON.parse(line) as ReaderReport)
    })
  }

  tell(command: ReaderCommand): void {
    this.child.stdin!.write(`${command}\n`)
  }

  report(): Promise<ReaderReport> {
    return new Promise((resolve, reject) => {
      const fail = () => reject(new Error(`the readers ended: ${this.#stderr}`))
      this.child.once('close', fail)
      this.#waiting.push(report => {
        this.child.off('close', fail)
        resolve(report)
      })
      this.child.stdin!.write('report\n')
    })
  }

  async until(isSo: (report: ReaderReport) => boolean, timeoutMs: number): Promise<ReaderReport> {
    const startedAt = performance.now()
    for (;;) {
      const report = await this.report()
      if (isSo(report)) return report
      if (performance.now() - startedAt > timeoutMs) {
        throw new Error(`not in ${timeoutMs} ms: ${JSON.stringify(report)}`)
      }
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}
