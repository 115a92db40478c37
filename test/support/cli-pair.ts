/** The same command line for Mosquitto's programs and for ours. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const MOTEMQ = fileURLToPath(new URL('../../bin/motemq.js', import.meta.url))
const TIMEOUT_MS = 20_000

export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly input?: string | Buffer
  readonly env?: Readonly<Record<string, string>>
}

/** The two programs of a command. */
export const PROGRAMS = ['mosquitto', 'motemq'] as const
export type ProgramName = (typeof PROGRAMS)[number]

/** Bytes of standard output are `latin1`, so that none is lost. */
export function runCli(
  program: ProgramName,
  command: 'pub' | 'sub',
  flags: readonly string[],
  options: CliOptions = {}
): Promise<Outcome> {
  const [file, ...first] =
    program === 'mosquitto' ? [`mosquitto_${command}`] : [process.execPath, MOTEMQ, command]
  const env = { ...process.env, XDG_CONFIG_HOME: '/nonexistent', ...options.env }
  const child = spawn(file!, [...first, ...flags], { env, stdio: ['pipe', 'pipe', 'pipe'] })
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS)
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', chunk => {
    stdout += (chunk as Buffer).toString('latin1')
  })
  child.stderr.on('data', chunk => {
    stderr += String(chunk)
  })
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input ?? '')
  return new Promise(resolve => {
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
  })
}
