/** `motemq vhost trace`: of a running broker only, for it ends with one. */
import { type LoadInput, loadOptions } from '../config/load.ts'
import { printable } from '../lib/printable.ts'
import { askBroker } from './ask-broker.ts'
import { pathOf, say } from './ask-store.ts'
import { CommandError, EXIT_USAGE } from './exit.ts'

export async function traceVhost(input: LoadInput, word: string, name: string): Promise<void> {
  if (word !== 'on' && word !== 'off') {
    throw new CommandError(`trace takes the word on or off, not ${printable(word)}`, EXIT_USAGE)
  }
  const isOn = word === 'on'
  const { options } = await loadOptions(input)
  try {
    await askBroker(options.data, 'PUT', pathOf('vhosts', name, 'tracing'), { on: isOn })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error
    throw new CommandError(`no broker runs on the data folder ${options.data}; name it with --data`)
  }
  say(`virtual host ${printable(name)} is ${isOn ? 'traced' : 'traced no more'}`)
}
