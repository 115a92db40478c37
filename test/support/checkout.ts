/**
 * A copy of what is needed to build and run, as a fresh clone has it: `npm start` builds first, and must not take the
 * built program away from the tests that run beside. The dependencies are this checkout's.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PARTS = ['package.json', '.npmrc', 'tsconfig.json', 'tsconfig.build.json', 'bin', 'src']

export class Checkout {
  readonly folder: string
  readonly #children = new Set<ChildProcess>()

  /** `more`: files that it needs besides. */
  constructor(more: readonly string[] = []) {
    this.folder = mkdtempSync(join(tmpdir(), 'motemq-clone-'))
    for (const part of [...PARTS, ...more]) {
      cpSync(join(ROOT, part), join(this.folder, part), { recursive: true })
    }
    symlinkSync(join(ROOT, 'node_modules'), join(this.folder, 'node_modules'))
  }

  /** Runs lines of a shell in the folder, in a process group of their own. */
  sh(lines: string, env: Readonly<Record<string, string>> = {}): ShellRun {
    const inherited = Object.entries(process.env).filter(([name]) => !/^(MOTEMQ|npm)_/.test(name))
    const child = spawn('bash', ['-e', '-c', lines], {
      cwd: this.folder,
      env: { ...Object.fromEntries(inherited), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true
    })
    this.#children.add(child)
    return new ShellRun(child)
  }

  /** Ends what still runs, and removes the folder. */
  remove(): void {
    for (const child of this.#children) {
      if (child.pid === undefined) continue
      try {
        process.kill(-child.pid, 'SIGKILL')
      } catch (error) {
        // The group is gone already.
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export class ShellRun {
  readonly child: ChildProcess
  readonly exit: Promise<number | string | null>
  stdout = ''
  stderr = ''
  #look: () => void = () => undefined

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout!.on('data', chunk => {
      this.stdout += String(chunk)
      this.#look()
    })
    child.stderr!.on('data', chunk => {
      this.stderr += String(chunk)
    })
    this.exit = new Promise(resolve => {
      child.on('close', (code, signal) => resolve(code ?? signal))
    })
  }

  /** Resolves when standard output contains `text`; rejects when it ends before. */
  saw(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#look = () => {
        if (this.stdout.includes(text)) resolve()
      }
      this.#look()
      void this.exit.then(code => {
        reject(new Error(`ended with ${code} before "${text}":\n${this.stdout}${this.stderr}`))
      })
    })
  }

  /** Resolves with standard output when it ended with 0. */
  async done(): Promise<string> {
    const code = await this.exit
    if (code !== 0) throw new Error(`ended with ${code}:\n${this.stdout}${this.stderr}`)
    return this.stdout
  }
}
