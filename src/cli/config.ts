/** `motemq config print` and `motemq config check`. */
import { type LoadInput, loadOptions } from '../config/load.ts'
import { printOptions } from '../config/print.ts'

export async function printConfig(input: LoadInput): Promise<void> {
  const loaded = await loadOptions(input)
  for (const warning of loaded.warnings) process.stderr.write(`motemq: ${warning}\n`)
  process.stdout.write(printOptions(loaded))
}

export async function checkConfig(input: LoadInput): Promise<void> {
  const { files, warnings } = await loadOptions(input)
  for (const warning of warnings) process.stderr.write(`motemq: ${warning}\n`)
  const read = files.length === 0 ? 'no config file, all defaults' : files.join(', ')
  process.stdout.write(`ok: ${read}\n`)
}
