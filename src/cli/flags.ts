/** The options of `config/options.ts` as flags of a command. */
import { type Command, Option as Flag } from 'commander'
import type { LoadInput } from '../config/load.ts'
import { NAMED_OPTIONS, type NamedOption } from '../config/options.ts'

const VALUE_NAMES: Readonly<Record<string, string>> = {
  text: '<text>',
  choice: '<word>',
  boolean: '[true|false]',
  count: '<number>',
  bytes: '<size>',
  ms: '<time>',
  seconds: '<time>',
  texts: '<text>',
  listeners: '<url>'
}

/** `--config` and one flag an option. */
export function addOptionFlags(command: Command): void {
  command.option(
    '--config <file>',
    'config file (else MOTEMQ_CONFIG, ./motemq.yaml, /etc/motemq/motemq.yaml)'
  )
  for (const named of NAMED_OPTIONS) {
    if (named.flag !== '') command.addOption(flagOf(named))
  }
}

/** Only those that say where the data is: for commands about it. */
export function addDataFlags(command: Command): void {
  command.option('--config <file>', 'config file of the broker')
  command.addOption(flagOf(NAMED_OPTIONS.find(named => named.key === 'data')!))
}

function flagOf(named: NamedOption): Flag {
  const { option } = named
  const value = named.key === 'data' ? '<dir>' : VALUE_NAMES[option.kind]
  const flag = new Flag(`${named.flag} ${value}`, helpOf(named))
  if (option.kind === 'listeners' || option.kind === 'texts') {
    flag.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value])
  }
  if (named.path[0] === 'limits') flag.helpGroup('Limits:')
  return flag
}

function helpOf(named: NamedOption): string {
  const { option } = named
  if (option.kind === 'listeners') {
    return `${option.help}; may be repeated (default: mqtt, amqp, ws and http on this machine)`
  }
  if (option.kind === 'texts') return `${option.help}; may be repeated`
  const choices = option.choices.length > 1 ? `: ${option.choices.join(', ')}` : ''
  const shown = showDefault(named)
  return `${option.help}${choices}${shown === '' ? '' : ` (default: ${shown})`}`
}

function showDefault(named: NamedOption): string {
  const { kind, defaultValue } = named.option
  if (kind !== 'bytes' || typeof defaultValue !== 'number') {
    const unit = kind === 'ms' ? ' ms' : kind === 'seconds' ? ' s' : ''
    return `${String(defaultValue)}${unit}`
  }
  if (defaultValue > 0 && defaultValue % 2 ** 20 === 0) return `${defaultValue / 2 ** 20} MiB`
  if (defaultValue > 0 && defaultValue % 2 ** 10 === 0) return `${defaultValue / 2 ** 10} KiB`
  return `${defaultValue} bytes`
}

/** What the flags of a command say, for `loadOptions`. */
export function readFlags(command: Command): LoadInput {
  const values = command.opts<Record<string, unknown>>()
  const flags = new Map<string, string | readonly string[]>()
  for (const named of NAMED_OPTIONS) {
    if (named.flag === '') continue
    const value = values[new Flag(named.flag).attributeName()]
    if (value === undefined) continue
    flags.set(named.key, Array.isArray(value) ? (value as string[]) : String(value))
  }
  const config = values['config']
  return {
    config: typeof config === 'string' ? config : null,
    flags,
    environment: process.env,
    directory: process.cwd()
  }
}
