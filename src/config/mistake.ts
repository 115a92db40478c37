import { printable } from '../lib/printable.ts'

/** What was wrong, in sentences: one a mistake. The command line prints them and exits 2. */
export class ConfigError extends Error {
  readonly mistakes: readonly string[]

  constructor(mistakes: readonly string[]) {
    super(mistakes.join('\n'))
    this.name = 'ConfigError'
    this.mistakes = mistakes
  }
}

/** Gathers mistakes, so that all are reported together. `where` is `file:line`, a flag or a variable. */
export class Mistakes {
  readonly list: string[] = []

  add(where: string, sentence: string): void {
    const line = where === '' ? sentence : `${where}: ${sentence}`
    if (!this.list.includes(line)) this.list.push(line)
  }

  throwIfAny(): void {
    if (this.list.length > 0) throw new ConfigError(sortByLine(this.list))
  }
}

/** Those of one file in the order of its lines; else in the order in which they were found. */
function sortByLine(list: readonly string[]): string[] {
  const files: string[] = []
  const placed = list.map(text => {
    const match = /^(.*?):(\d+): /.exec(text)
    const file = match?.[1] ?? ''
    if (!files.includes(file)) files.push(file)
    return { text, file: files.indexOf(file), line: Number(match?.[2] ?? 0) }
  })
  return placed.sort((a, b) => a.file - b.file || a.line - b.line).map(mistake => mistake.text)
}

/** A value as a mistake shows it: one line, short, nothing that a terminal would obey. */
export function shown(value: unknown): string {
  const safe = printable(typeof value === 'string' ? JSON.stringify(value) : String(value))
  return safe.length > 60 ? `${safe.slice(0, 57)}...` : safe
}
