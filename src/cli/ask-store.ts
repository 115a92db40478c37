/** One question about what is kept: to the running broker through its socket, else to its stopped store. */
import { existsSync } from 'node:fs'
import { type LoadInput, loadOptions } from '../config/load.ts'
import { askBroker } from './ask-broker.ts'
import { CommandError } from './exit.ts'

export interface Question {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  readonly path: string
  readonly body?: unknown
}

export async function askStore(input: LoadInput, question: Question): Promise<unknown> {
  const { method, path, body = null } = question
  const { options } = await loadOptions(input)
  try {
    return await askBroker(options.data, method, path, body)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES' || code === 'EPERM') {
      throw new CommandError(
        `the data folder ${options.data} belongs to another user: run this as the user that runs the broker (sudo -u USER ...)`
      )
    }
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error
  }
  if (method === 'GET' && !existsSync(options.data)) {
    throw new CommandError(`there is no data folder ${options.data}; name it with --data`)
  }
  const { openStopped } = await import('../stopped.ts')
  const { HttpError } = await import('../admin/router.ts')
  const stopped = await openStopped(options)
  try {
    return await stopped.ask(method, path, body)
  } catch (error) {
    if (error instanceof HttpError) throw new CommandError(error.message)
    throw error
  } finally {
    await stopped.close()
  }
}

/** A path of the admin API, each part escaped. */
export function pathOf(...parts: readonly string[]): string {
  return `/api/${parts.map(encodeURIComponent).join('/')}`
}

export function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** A table with its columns as wide as they need to be. */
export function sayRows(rows: readonly (readonly string[])[]): void {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  }
  for (const row of rows) {
    say(
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd()
    )
  }
}
