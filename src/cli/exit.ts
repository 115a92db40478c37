/** How a command ends: what is printed, and the exit code (design of the command line). */
import { ConfigError } from '../config/mistake.ts'
import { StartRefusedError } from '../config/start-rules.ts'
import { BrokerError } from '../core/errors.ts'
import { printable } from '../lib/printable.ts'

export const EXIT_OK = 0
/** The world failed: port, disk, lock; or a request was refused. */
export const EXIT_FAILED = 1
/** Wrong flags or configuration: nothing was started. */
export const EXIT_USAGE = 2
/** We have a bug. */
export const EXIT_BUG = 70

/** Ends a command with a sentence of its own. */
export class CommandError extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode: number = EXIT_FAILED) {
    super(message)
    this.name = 'CommandError'
    this.exitCode = exitCode
  }
}

export interface Ending {
  readonly exitCode: number
  /** One a mistake. */
  readonly lines: readonly string[]
}

/** What an error means for the one who ran the command. */
export function endingOf(error: unknown): Ending {
  if (error instanceof ConfigError) return { exitCode: EXIT_USAGE, lines: error.mistakes }
  if (error instanceof StartRefusedError) return { exitCode: EXIT_USAGE, lines: error.refusals }
  if (error instanceof CommandError) return { exitCode: error.exitCode, lines: [error.message] }
  if (error instanceof BrokerError || isOfTheWorld(error)) {
    return { exitCode: EXIT_FAILED, lines: [error.message] }
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { exitCode: EXIT_BUG, lines: [`this is a bug of Motemq: ${stack}`] }
}

/**
 * Ours for what the outside did (`ListenError`, `JournalError`) and the system's own have a `code`;
 * Node's `ERR_...` are a program's mistakes.
 */
function isOfTheWorld(error: unknown): error is Error {
  if (!(error instanceof Error) || !('code' in error)) return false
  return typeof error.code === 'string' && !error.code.startsWith('ERR_')
}

export function printLines(lines: readonly string[]): void {
  for (const line of lines) {
    const safe = line.split('\n').map(printable).join('\n  ')
    process.stderr.write(`motemq: ${safe}\n`)
  }
}
