/** Which options may change while the broker runs. */
import { NAMED_OPTIONS, type Options } from './options.ts'

/** The files that TLS options name are read again, too; the options themselves stay. */
const LIVE: ReadonlySet<string> = new Set([
  'users',
  'topics',
  'vhosts',
  'queues',
  'bridges',
  'definitions',
  'log.level'
])

/** Keys whose value is another one and is not taken over. */
export function needsRestart(before: Options, next: Options): string[] {
  return NAMED_OPTIONS.filter(({ key }) => !LIVE.has(key))
    .filter(({ path }) => textAt(before, path) !== textAt(next, path))
    .map(({ key }) => key)
}

function textAt(options: Options, path: readonly string[]): string {
  let value: unknown = options
  for (const name of path) value = (value as Readonly<Record<string, unknown>>)[name]
  return JSON.stringify(value)
}

/** What holds after a reload. */
export function withLive(before: Options, next: Options): Options {
  const { users, topics, vhosts, queues, bridges, definitions } = next
  const log = { ...before.log, level: next.log.level }
  return { ...before, users, topics, vhosts, queues, bridges, definitions, log }
}
