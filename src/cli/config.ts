/** `motemq config print` and `motemq config check`. */
import { type LoadInput, loadOptions } from '../config/load.ts'
import { ConfigError } from '../config/mistake.ts'
import type { Options } from '../config/options.ts'
import { printOptions } from '../config/print.ts'
import { tlsOfListeners } from '../config/tls.ts'

export async function printConfig(input: LoadInput): Promise<void> {
  const loaded = await loadOptions(input)
  for (const warning of loaded.warnings) process.stderr.write(`motemq: ${warning}\n`)
  process.stdout.write(printOptions(loaded))
}

export async function checkConfig(input: LoadInput): Promise<void> {
  const { options, files, warnings } = await loadOptions(input)
  for (const warning of [...warnings, ...(await checkTls(options))])
    process.stderr.write(`motemq: ${warning}\n`)
  const read = files.length === 0 ? 'no config file, all defaults' : files.join(', ')
  process.stdout.write(`ok: ${read}\n`)
}

/** What is odd with the certificates and keys that the listeners name. @throws ConfigError */
async function checkTls({ listeners, tls, data }: Options): Promise<readonly string[]> {
  const { settings, mistakes } = tlsOfListeners(listeners, tls, data)
  const wrong = new Set(mistakes)
  const odd = new Set<string>()
  const { loadTls, TlsFilesError } = await import('../net/tls-files.ts')
  for (const one of settings.values()) {
    try {
      for (const warning of loadTls(one, Date.now()).warnings) odd.add(warning)
    } catch (error) {
      if (!(error instanceof TlsFilesError)) throw error
      for (const mistake of error.mistakes) wrong.add(mistake)
    }
  }
  if (wrong.size > 0) throw new ConfigError([...wrong])
  return [...odd]
}
