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
  kill(): void
}

/** Starts a program; it is killed when it runs longer than `timeoutMs`. */
export function start(command: string, args: readonly string[], timeoutMs = 20_000): Running {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  let stdout = ''
  let stderr = ''
  let checkWaiting: () => void = () => undefined
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += String(chunk)
    checkWaiting()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += String(chunk)
  })
  const result = new Promise<RunResult>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
  })
  const saw = (text: string) =>
    new Promise<void>((resolve, reject) => {
      checkWaiting = () => {
        if (stdout.includes(text)) resolve()
      }
      checkWaiting()
      result.then(
        ({ code }) => reject(new Error(`${command} ended with ${code}: ${stdout}${stderr}`)),
        reject
      )
    })
  return { result, saw, kill: () => child.kill('SIGKILL') }
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
