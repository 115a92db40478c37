/** Other people's programs, run to their end. */
import { spawn } from 'node:child_process'
import { PYTHON } from './require.ts'

export interface RunResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly result: Promise<RunResult>
  /** Resolves when standard output, so far, contains `text`; rejects when the program ends before. */
  saw(text: string): Promise<void>
  /** The same of standard output or standard error. */
  said(text: string): Promise<void>
  kill(): void
}

export interface StartOptions {
  /** It is killed when it runs longer. */
  readonly timeoutMs?: number
  /** Besides what this process has. */
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** It starts programs of its own: they are killed with it. */
  readonly isGroup?: boolean
}

export function start(
  command: string,
  args: readonly string[],
  { timeoutMs = 20_000, env, cwd, isGroup = false }: StartOptions = {}
): Running {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    detached: isGroup,
    cwd
  })
  const kill = () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    if (isGroup) process.kill(-child.pid!, 'SIGKILL')
    else child.kill('SIGKILL')
  }
  const timer = setTimeout(kill, timeoutMs)
  let stdout = ''
  let stderr = ''
  /** Those who wait for something that it says. */
  const waiting = new Set<() => void>()
  const checkWaiting = () => {
    for (const check of waiting) check()
  }
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += String(chunk)
    checkWaiting()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += String(chunk)
    checkWaiting()
  })
  const result = new Promise<RunResult>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
  })
  const until = (isThere: () => boolean) =>
    new Promise<void>((resolve, reject) => {
      const check = () => {
        if (!isThere()) return
        waiting.delete(check)
        resolve()
      }
      waiting.add(check)
      check()
      result.then(
        ({ code }) => reject(new Error(`${command} ended with ${code}: ${stdout}${stderr}`)),
        reject
      )
    })
  const saw = (text: string) => until(() => stdout.includes(text))
  const said = (text: string) => until(() => stdout.includes(text) || stderr.includes(text))
  return { result, saw, said, kill }
}

/** Runs it and resolves with its standard output; rejects when it does not end with 0. */
export async function run(command: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await start(command, args).result
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${code}\n${stdout}${stderr}`)
  return stdout
}

/** A script for Debian's Python, which gets `args` as `sys.argv[1:]`. */
export function startPython(script: string, args: readonly (string | number)[]): Running {
  return start(PYTHON, ['-u', '-c', script, ...args.map(String)])
}
