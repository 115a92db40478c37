/**
 * docs/configuration.md shows every option as `config/options.ts` has it. After a change of the table:
 * `MOTEMQ_WRITE_DOCS=1 npx vitest run --project unit docs-configuration`
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { loadOptions } from '../../src/config/load.ts'
import { NAMED_OPTIONS, type NamedOption } from '../../src/config/options.ts'

const PAGE = fileURLToPath(new URL('../../docs/configuration.md', import.meta.url))
const EXAMPLE = fileURLToPath(new URL('../../motemq.example.yaml', import.meta.url))
const MARKED = /(<!-- options -->\n)[\s\S]*(<!-- \/options -->)/

const UNITS = [
  {
    kind: 'bytes',
    steps: [
      ['GiB', 2 ** 30],
      ['MiB', 2 ** 20],
      ['KiB', 2 ** 10],
      ['bytes', 1]
    ]
  },
  {
    kind: 'ms',
    steps: [
      ['d', 86_400_000],
      ['h', 3_600_000],
      ['min', 60_000],
      ['s', 1_000],
      ['ms', 1]
    ]
  },
  {
    kind: 'seconds',
    steps: [
      ['d', 86_400],
      ['h', 3_600],
      ['min', 60],
      ['s', 1]
    ]
  }
] as const

/** `2 MiB`, `30 d`, `1,000`: the largest unit that leaves a whole number. */
function show(kind: string, value: unknown): string {
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.join(' ')
  if (typeof value !== 'number') return String(value)
  const steps = UNITS.find(unit => unit.kind === kind)?.steps
  const [unit, factor] = steps?.find(([, size]) => value >= size && value % size === 0) ?? ['', 1]
  return `${(value / factor).toLocaleString('en')} ${unit}`.trim()
}

function describeBounds({ option }: NamedOption): string {
  if (option.choices.length > 1) return ` (${option.choices.join(', ')})`
  if (!['count', 'bytes', 'ms', 'seconds'].includes(option.kind)) return ''
  const { kind, min, max } = option
  return ` [${show(kind, min)} to ${show(kind, max)}]`
}

function row(named: NamedOption): string {
  const { option, key, flag, variable } = named
  const shown =
    key === 'listeners'
      ? 'mqtt, amqp, ws, http on this machine'
      : show(option.kind, option.defaultValue)
  const how = flag === '' ? 'file only' : `\`${flag}\` \`${variable}\``
  const help = `${option.help}${describeBounds(named)}`.replaceAll('|', '\\|')
  return `| \`${key}\` | ${shown} | ${help} | ${how} |`
}

function tables(): string {
  const groups: [string, NamedOption[]][] = [
    ['General', NAMED_OPTIONS.filter(({ path }) => path[0] !== 'limits')],
    ['Limits', NAMED_OPTIONS.filter(({ path }) => path[0] === 'limits')]
  ]
  const head = '| key | default | what | flag and variable |\n|---|---|---|---|'
  return groups
    .map(([title, options]) => `\n### ${title}\n\n${head}\n${options.map(row).join('\n')}\n`)
    .join('')
}

describe('docs/configuration.md', () => {
  it('shows every option with its default, bounds, flag and variable', () => {
    const page = readFileSync(PAGE, 'utf8')
    const wanted = page.replace(MARKED, (_, begin, end) => `${begin}${tables()}\n${end}`)
    if (process.env['MOTEMQ_WRITE_DOCS'] === '1') writeFileSync(PAGE, wanted)
    else expect(page).toBe(wanted)
  })
})

describe('motemq.example.yaml', () => {
  const load = (config: string) =>
    loadOptions({ config, flags: new Map(), environment: {}, directory: '/' })

  it('is a config without a mistake', async () => {
    const { options } = await load(EXAMPLE)
    expect(options.queues.map(({ name }) => name)).toEqual(['telemetry', 'alarms'])
    expect(options.listeners.every(({ isLoopback }) => isLoopback)).toBe(true)
  })
})
