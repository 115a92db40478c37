/** The log: JSON lines on stdout, or readable lines on a terminal. */
import { type DestinationStream, destination, type Logger, pino, stdTimeFunctions } from 'pino'
import type { Options } from '../config/options.ts'
import { printable } from '../lib/printable.ts'

/** Beyond this many bytes that stdout does not take, lines are dropped: a log must not stop a broker. */
const BUFFER_BYTES_MAX = 4 * 1024 * 1024

export interface OpenLog {
  readonly log: Logger
  /** Writes what is still in memory; for the last moment of the process. */
  flush(): void
}

export function openLog(options: Options['log'], isTerminal: boolean): OpenLog {
  // A terminal takes lines at once, in order with the banner; a pipe that is full must not block us.
  const out = destination({ dest: 1, sync: isTerminal, maxLength: BUFFER_BYTES_MAX })
  // Whoever read the log is gone: go on without it.
  out.on('error', () => undefined)
  const isText = options.format === 'text' || (options.format === 'auto' && isTerminal)
  const stream: DestinationStream = isText
    ? { write: (line: string) => out.write(formatLine(line, isTerminal)) }
    : out
  const log = pino(
    {
      level: options.level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) }
    },
    stream
  )
  return {
    log,
    flush() {
      try {
        out.flushSync()
      } catch (error) {
        // A closed or full stdout: nobody to tell.
        if (!(error instanceof Error)) throw error
      }
    }
  }
}

const COLOURS: Readonly<Record<string, string>> = {
  fatal: '\u001b[31m',
  error: '\u001b[31m',
  warn: '\u001b[33m',
  info: '\u001b[32m',
  debug: '\u001b[36m',
  trace: '\u001b[90m'
}

/** `12:34:56.789 info  connected clientId=lamp peer=127.0.0.1` from a line of JSON. */
export function formatLine(line: string, hasColours: boolean): string {
  const entry = JSON.parse(line) as Record<string, unknown>
  const { level, time, msg, err, ...fields } = entry
  const name = String(level).padEnd(5)
  const colour = hasColours ? COLOURS[String(level)] : undefined
  const clock = new Date(String(time)).toTimeString().slice(0, 8) + String(time).slice(19, 23)
  let text = `${clock} ${colour === undefined ? name : `${colour}${name}\u001b[0m`} ${printable(String(msg ?? ''))}`
  for (const [key, value] of Object.entries(fields)) text += ` ${key}=${formatValue(value)}`
  if (isRecord(err)) {
    const stack = typeof err['stack'] === 'string' ? err['stack'] : String(err['message'])
    text += `\n  ${stack.split('\n').map(printable).join('\n  ')}`
  }
  return `${text}\n`
}

function formatValue(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  const safe = printable(text)
  return typeof value === 'string' && (safe === '' || /[\s"=]/.test(safe))
    ? JSON.stringify(safe)
    : safe
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
