/** Debian's mosquitto as a process, on a free port: what devices are used to. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './free-port.ts'
import { findProgram } from './require.ts'

const START_TIMEOUT_MS = 10_000

export class Mosquitto {
  readonly port: number
  readonly #child: ChildProcess
  readonly #folder: string

  private constructor(port: number, child: ChildProcess, folder: string) {
    this.port = port
    this.#child = child
    this.#folder = folder
  }

  /** `lines` are added to its configuration. */
  static async start(lines: readonly string[] = []): Promise<Mosquitto> {
    const port = await freePort()
    const folder = mkdtempSync(join(tmpdir(), 'motemq-mosquitto-'))
    const config = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', ...lines]
    writeFileSync(join(folder, 'mosquitto.conf'), `${config.join('\n')}\n`)
    const words = ['-c', join(folder, 'mosquitto.conf')]
    const child = spawn(findProgram('mosquitto')!, words, { stdio: 'ignore' })
    const mosquitto = new Mosquitto(port, child, folder)
    for (const startedAt = Date.now(); !(await answers(port)); ) {
      if (Date.now() - startedAt < START_TIMEOUT_MS) continue
      await mosquitto.remove()
      throw new Error('mosquitto does not listen')
    }
    return mosquitto
  }

  async remove(): Promise<void> {
    const { exitCode, signalCode } = this.#child
    if (exitCode === null && signalCode === null) {
      const gone = once(this.#child, 'close')
      this.#child.kill('SIGKILL')
      await gone
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

async function answers(port: number): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1' })
  try {
    await once(socket, 'connect')
    return true
  } catch {
    // Not yet.
    await new Promise(resolve => setTimeout(resolve, 20))
    return false
  } finally {
    socket.destroy()
  }
}
