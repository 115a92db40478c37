/** Runs `bin/motemq.js`, as built, as a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const COMMAND_TIMEOUT_MS = 20_000
const PROGRAM = fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))

export interface Finished {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
}

export interface RunOptions {
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  readonly input?: string
}

export class MotemqProcess {
  readonly child: ChildProcess
  readonly finished: Promise<Finished>
  stdout = ''
  stderr = ''

  constructor(words: readonly string[], options: RunOptions) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('MOTEMQ_'))
    this.child = spawn(process.execPath, [PROGRAM, ...words], {
      cwd: options.cwd,
      env: { ...Object.fromEntries(inherited), ...options.env },
      stdio: ['pipe', 'pipe', 'pipe']
    })
    this.child.stdout!.on('data', chunk => {
      this.stdout += String(chunk)
    })
    this.child.stderr!.on('data', chunk => {
      this.stderr += String(chunk)
    })
    // A program that does not read its input may be gone before it is written.
    this.child.stdin!.on('error', () => undefined)
    this.child.stdin!.end(options.input ?? '')
    this.finished = new Promise(resolve => {
      this.child.on('close', (code, signal) => {
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr })
      })
    })
  }

  /** The fields of the first log line with this message; rejects when the process ends before it. */
  line(message: string): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      const look = () => {
        for (const text of this.stdout.split('\n').slice(0, -1)) {
          const entry = JSON.parse(text) as Record<string, unknown>
          if (entry['msg'] === message) return resolve(entry)
        }
      }
      this.child.stdout!.on('data', look)
      look()
      void this.finished.then(({ code, stderr }) => {
        reject(new Error(`ended with ${code} before "${message}": ${stderr}`))
      })
    })
  }

  /** The URLs it listens on. */
  async ready(): Promise<string[]> {
    return (await this.line('ready'))['urls'] as string[]
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Finished> {
    this.child.kill(signal)
    return this.finished
  }
}

/** Runs a command to its end; one that goes on for 20 s is killed, so that none outlives its test. */
export async function runMotemq(words: readonly string[], options: RunOptions): Promise<Finished> {
  const one = new MotemqProcess(words, options)
  const timer = setTimeout(() => one.child.kill('SIGKILL'), COMMAND_TIMEOUT_MS)
  try {
    return await one.finished
  } finally {
    clearTimeout(timer)
  }
}
