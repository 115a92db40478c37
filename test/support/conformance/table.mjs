/**
 * The conformance table: the numbered statements of both MQTT versions, the tests that name them, and
 * what is not ours. A string of a test file names statements as `v5 [MQTT-3.3.2-7] [MQTT-3.3.2-8]`;
 * `v3` is 3.1.1. Comments do not count, nor do tests that are skipped for good.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const FILES = { v3: 'mqtt-3.1.1.json', v5: 'mqtt-5.0.json' }
const NOT_OURS = 'test/protocol/not-ours.json'
const OPEN = 'test/support/conformance/open.json'
const PAGE = 'docs/conformance.md'
const SPECIFICATIONS = {
  v3: 'https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html',
  v5: 'https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html'
}

const STRING = /(['"`])((?:\\.|(?!\1).)*)\1/g
const NAMED = /\bv([35]) (\[MQTT-[^\]]*\](?: \[MQTT-[^\]]*\])*)/g

const read = path => readFileSync(join(ROOT, path), 'utf8')

/** By version the statements, by number. */
export function readStatements() {
  return Object.fromEntries(
    Object.entries(FILES).map(([version, file]) => [
      version,
      JSON.parse(readFileSync(join(HERE, file), 'utf8')).statements
    ])
  )
}

/** The statements that the strings of a test file name, as `v5 MQTT-3.3.2-7`, and brackets without a version. */
export function namesIn(source) {
  const named = new Set()
  const unversioned = []
  const lines = source.split('\n')
  lines.forEach((line, index) => {
    if (/^\s*(\/\/|\/?\*)/.test(line)) return
    if (/\.(skip|todo)\(/.test(line) || /\.(skip|todo)\(\s*$/.test(lines[index - 1] ?? '')) return
    for (const [, , text] of line.matchAll(STRING)) {
      const rest = text.replace(NAMED, (_, version, list) => {
        for (const [, number] of list.matchAll(/\[([^\]]*)\]/g)) named.add(`v${version} ${number}`)
        return ''
      })
      if (rest.includes('[MQTT-')) unversioned.push(`${index + 1}: ${text}`)
    }
  })
  return { named, unversioned }
}

/** All test files, and what they name. */
export function readNames() {
  const files = new Map()
  const unversioned = []
  const found = readdirSync(join(ROOT, 'test'), { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && entry.name.endsWith('.test.ts'))
    .map(entry => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter(file => file !== 'test/unit/conformance-table.test.ts')
    .sort()
  for (const file of found) {
    const names = namesIn(read(file))
    for (const statement of names.named) {
      files.set(statement, [...(files.get(statement) ?? []), file])
    }
    unversioned.push(...names.unversioned.map(line => `${file}:${line}`))
  }
  return { files, unversioned }
}

/** By version the numbers that are not ours, with the reason. */
export const readNotOurs = () => JSON.parse(read(NOT_OURS))

/** Statements without a test so far, as `v5 MQTT-3.3.2-7`. */
export const readOpen = () => JSON.parse(read(OPEN))

/** Those that no test names, though they bind a server and are ours. */
export function findUncovered() {
  const { files } = readNames()
  const notOurs = readNotOurs()
  const uncovered = []
  for (const [version, statements] of Object.entries(readStatements())) {
    for (const [number, { binds }] of Object.entries(statements)) {
      const key = `${version} ${number}`
      if (binds !== 'client' && !files.has(key) && notOurs[version][number] === undefined) {
        uncovered.push(key)
      }
    }
  }
  return uncovered
}

/** docs/conformance.md. */
export function renderPage() {
  const { files } = readNames()
  const notOurs = readNotOurs()
  const choices = readFileSync(join(HERE, 'choices.md'), 'utf8').trim()
  const parts = [choices]
  for (const [version, statements] of Object.entries(readStatements())) {
    parts.push(renderTable(version, statements, files, notOurs[version]))
  }
  return `${parts.join('\n\n')}\n`
}

function renderTable(version, statements, files, notOurs) {
  const title = version === 'v5' ? 'MQTT 5.0' : 'MQTT 3.1.1'
  const entries = Object.entries(statements)
  const clients = entries.filter(([, { binds }]) => binds === 'client').length
  const rows = entries.map(([number, { binds, says }]) => {
    const where = files.get(`${version} ${number}`) ?? []
    const links = where.map(file => `[${file.replace(/^test\/|\.test\.ts$/g, '')}](../${file})`)
    let shown = links.join(', ')
    if (shown === '') {
      if (notOurs[number] !== undefined) shown = `not ours: ${notOurs[number]}`
      else shown = binds === 'client' ? 'binds clients' : '**no test yet**'
    }
    return `| ${number} | ${says} | ${shown} |`
  })
  return [
    `## ${title}: the statements`,
    '',
    `The [specification](${SPECIFICATIONS[version]}) numbers ${entries.length} statements (its`,
    `Appendix B); ${clients} of them bind clients only.`,
    '',
    '| statement | in short | tests in |',
    '|---|---|---|',
    ...rows
  ].join('\n')
}

/** The page as it stands. */
export const readPage = () => read(PAGE)

export const paths = { page: join(ROOT, PAGE), open: join(ROOT, OPEN) }
