/** The definitions that the configuration names. */
import { readFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { StartRefusedError } from '../config/start-rules.ts'
import { type ImportTarget, importDefinitions } from './definitions-import.ts'
import { isObject, type JsonObject } from './json-body.ts'

/** Entries that cannot be taken are logged. */
export async function importFile(
  file: string,
  definitions: JsonObject,
  target: ImportTarget,
  log: Logger
): Promise<void> {
  const { taken, refused, notes } = await importDefinitions(target, definitions)
  for (const why of refused) log.warn({ file, why }, 'a definition was not taken')
  for (const note of notes) log.info({ file, note }, 'definitions')
  log.info({ file, taken, refused: refused.length }, 'definitions taken')
}

/** Throws a `StartRefusedError` for a file that cannot be read. */
export async function readDefinitions(file: string): Promise<JsonObject> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new StartRefusedError([`definitions: ${file} cannot be read (${code})`])
  }
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return value
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new StartRefusedError([`definitions: ${file} is no JSON object`])
}
