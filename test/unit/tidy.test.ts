/** House rules that no linter knows. A failure names the file and the line. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../..', import.meta.url))
const LINES_MAX = 500

/** Everything that may be in `src`; one noun a folder. */
const FOLDERS = new Set([
  ...[
    '.',
    'config',
    'lib',
    'net',
    'core',
    'core/records',
    'journal',
    'broker',
    'mqtt',
    'mqtt/codec'
  ],
  ...['amqp', 'amqp/codec', 'persistence', 'auth', 'client', 'bridge', 'bridge/links', 'admin'],
  ...['admin/dashboard', 'cli']
])

/** What is run or imported from outside. */
const ENTRIES = new Set(['src/index.ts', 'src/cli/main.ts', 'src/persistence/index.ts'])

/** How the work is organised, and by whom, is nobody's business who reads the code. */
const WORK_WORDS =
  /\b(claude|chatgpt|copilot|llm|language model|sub-?agents?|as instructed|the brief says|the lead commits|other helpers|this session of work)\b|\bAI\b/i

const MACHINE_PATHS = /(^|[\s'"`(=])\/(work|root|Users|home\/[a-z]+|tmp\/[a-z]+)\//

const read = (file: string) => readFileSync(join(root, file), 'utf8')

/** All text files below a folder, as paths from the root. */
function filesIn(folder: string): string[] {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && !entry.parentPath.includes('node_modules'))
    .map(entry => relative(root, join(entry.parentPath, entry.name)))
    .sort()
}

const isCode = (file: string) => /\.[jt]s$/.test(file)
const sources = filesIn('src').filter(isCode)
const tests = filesIn('test').filter(isCode)
const code = [...sources, ...tests, ...filesIn('bin'), 'vitest.config.ts']
const texts = [...code, ...filesIn('docs').filter(file => file.endsWith('.md')), ...filesIn('.ci')]
const rootTexts = readdirSync(root).filter(file => file.endsWith('.md'))

/** `file:line: text` of every line that matches. */
function find(files: readonly string[], pattern: RegExp): string[] {
  const self = basename(fileURLToPath(import.meta.url))
  return files
    .filter(file => basename(file) !== self)
    .flatMap(file =>
      read(file)
        .split('\n')
        .flatMap((line, index) =>
          pattern.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : []
        )
    )
}

/** Files of ours that this file imports, also only when it is used. */
function importsOf(file: string): string[] {
  const specifiers = read(file).matchAll(/(?:from|import|import\(|new URL\()\s*['"](\.[^'"]+)['"]/g)
  return [...specifiers].map(([, target = '']) =>
    relative(root, resolve(root, dirname(file), target))
  )
}

describe('the code', () => {
  it(`has no file of more than ${LINES_MAX} lines`, () => {
    const long = code.filter(file => read(file).split('\n').length - 1 > LINES_MAX)
    expect(long).toEqual([])
  })

  it('writes to no console', () => expect(find(sources, /\bconsole\./)).toEqual([]))

  it('has named exports only', () => expect(find(sources, /^export default\b/)).toEqual([]))

  it('has no open ends without a number', () => {
    expect(find(texts, /\b(TODO|FIXME|XXX)\b(?!\(#\d+\)| #\d+)/)).toEqual([])
  })

  it('excuses itself from no check without saying why', () => {
    expect(find(code, /(biome-ignore [\w/]+:?\s*$|@ts-(ignore|nocheck|expect-error)\s*$)/)).toEqual(
      []
    )
  })

  it('has no file that nobody imports', () => {
    const imported = new Set(sources.flatMap(importsOf))
    expect(sources.filter(file => !imported.has(file) && !ENTRIES.has(file))).toEqual([])
  })

  it('lies where the layout says', () => {
    const folders = new Set(sources.map(file => relative('src', dirname(file)) || '.'))
    expect([...folders].filter(folder => !FOLDERS.has(folder))).toEqual([])
  })
})

describe('every text', () => {
  it('names no path of one machine', () => {
    expect(find([...texts, ...rootTexts], MACHINE_PATHS)).toEqual([])
  })

  it('speaks of the program, not of how it was made', () => {
    expect(find([...texts, ...rootTexts], WORK_WORDS)).toEqual([])
  })
})
