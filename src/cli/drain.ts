/** `motemq drain`: tells a running broker to send its MQTT clients away, or to take them again. */
import type { DrainStatus } from '../admin/drain.ts'
import { type LoadInput, loadOptions } from '../config/load.ts'
import { printable } from '../lib/printable.ts'
import { askBroker } from './ask-broker.ts'
import { CommandError, EXIT_USAGE } from './exit.ts'

export interface DrainFlags {
  readonly to?: string
  readonly moved?: boolean
  readonly off?: boolean
}

export async function drain(input: LoadInput, flags: DrainFlags): Promise<void> {
  const { to = '', moved = false, off = false } = flags
  if (off && (to !== '' || moved)) {
    throw new CommandError('--off goes with neither --to nor --moved', EXIT_USAGE)
  }
  const { options } = await loadOptions(input)
  const status = await (off
    ? ask(options.data, 'DELETE', null)
    : ask(options.data, 'PUT', { to, moved }))
  process.stdout.write(`${describe(status)}\n`)
}

function describe({ draining, reference, moved, connections }: DrainStatus): string {
  if (!draining) return 'not draining: MQTT clients are taken'
  const where = reference === '' ? '' : ` to ${printable(reference)}`
  return `draining: ${connections} MQTT connections are sent away${where}${moved ? ' for good' : ''}`
}

async function ask(data: string, method: string, body: unknown): Promise<DrainStatus> {
  try {
    return (await askBroker(data, method, '/api/drain', body)) as DrainStatus
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error
    throw new CommandError(`no broker runs on the data folder ${data}; name it with --data`)
  }
}
