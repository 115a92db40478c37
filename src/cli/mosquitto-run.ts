/** What `motemq pub` and `motemq sub` share: reading the flags, help, mistakes, what they say. */
import { VERSION } from '../lib/version.ts'
import { ClientFailure } from './mosquitto-client.ts'
import { type ClientCommand, type ClientFlags, FlagMistake } from './mosquitto-config.ts'
import { readClientFlags } from './mosquitto-flags.ts'
import { helpText } from './mosquitto-help.ts'

/** Errors to standard error unless --quiet, debug lines to standard output. */
export class Voice {
  private readonly flags: ClientFlags
  private readonly write: (line: string) => void
  clientId: string

  constructor(flags: ClientFlags, write: (line: string) => void) {
    this.flags = flags
    this.write = write
    this.clientId = flags.id ?? ''
  }

  debug(text: string): void {
    if (!this.flags.isDebug) return
    this.write(`Client ${this.clientId === '' ? '(null)' : this.clientId} ${text}\n`)
  }

  plain(text: string): void {
    if (this.flags.isDebug) this.write(`${text}\n`)
  }

  error(line: string): void {
    if (!this.flags.isQuiet) process.stderr.write(`${line}\n`)
  }
}

/** Runs `work` with the flags that `words` say; sets the exit code. */
export async function runClientCommand(
  command: ClientCommand,
  words: readonly string[],
  work: (flags: ClientFlags) => Promise<number>
): Promise<void> {
  // Whoever read it is gone: what is published is published, and a subscriber's own output ends it.
  process.stdout.on('error', () => undefined)
  if (words.includes('--help')) {
    process.stdout.write(helpText(command))
    process.exitCode = 1
    return
  }
  if (words.includes('--version')) {
    process.stdout.write(`motemq ${command} version ${VERSION}\n`)
    process.exitCode = 1
    return
  }
  try {
    process.exitCode = await work(readClientFlags(command, words, process.env))
  } catch (error) {
    if (error instanceof FlagMistake) {
      process.stderr.write(
        `Error: ${error.message}\n\nUse 'motemq ${command} --help' to see usage.\n`
      )
    } else if (error instanceof ClientFailure) process.stderr.write(`${error.message}\n`)
    else throw error
    process.exitCode = 1
  }
}
