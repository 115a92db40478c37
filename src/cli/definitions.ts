/** `motemq definitions ...`: RabbitMQ's JSON, out and in. */
import { readFile, writeFile } from 'node:fs/promises'
import type { ImportReport } from '../admin/definitions-import.ts'
import type { LoadInput } from '../config/load.ts'
import { printable } from '../lib/printable.ts'
import { askStore, pathOf, say } from './ask-store.ts'
import { CommandError } from './exit.ts'

/** It holds hashes of passwords. */
const FILE_MODE = 0o600

export async function exportDefinitions(input: LoadInput, file: string | undefined): Promise<void> {
  const found = await askStore(input, { method: 'GET', path: pathOf('definitions') })
  const text = `${JSON.stringify(found, null, 2)}\n`
  if (file === undefined || file === '-') process.stdout.write(text)
  else await writeFile(file, text, { mode: FILE_MODE })
}

export async function importDefinitions(
  input: LoadInput,
  file: string,
  vhost: string | undefined
): Promise<void> {
  const body = parse(file, await readText(file))
  const path = vhost === undefined ? pathOf('definitions') : pathOf('definitions', vhost)
  const report = (await askStore(input, { method: 'POST', path, body })) as ImportReport
  const taken = Object.entries(report.taken).map(([section, count]) => `${count} ${section}`)
  say(`taken: ${taken.length === 0 ? 'nothing' : taken.join(', ').replaceAll('_', ' ')}`)
  for (const note of report.notes) say(`note: ${printable(note)}`)
  if (report.refused.length === 0) return
  for (const sentence of report.refused) process.stderr.write(`refused: ${printable(sentence)}\n`)
  throw new CommandError(`${report.refused.length} entries of ${file} were not taken`)
}

async function readText(file: string): Promise<string> {
  if (file !== '-') return readFile(file, 'utf8')
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

function parse(file: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new CommandError(`${file} is no JSON: ${error.message}`)
  }
}
