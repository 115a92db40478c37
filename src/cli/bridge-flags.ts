/** The flags of `motemq bridge`. */
import type { Command } from 'commander'
import { addDataFlags, readFlags } from './flags.ts'

const ORDERS = {
  pause: 'send nothing more; what comes waits',
  resume: 'go on',
  restart: 'close the link and open it anew, at once',
  purge: 'drop everything that waits'
} as const

export function addBridges(program: Command): void {
  const bridges = program.command('bridge').description('far sides that messages are carried on to')
  const status = bridges.command('status [name]').description('state, what waits, and why')
  status.option('--json', 'as JSON')
  addDataFlags(status)
  status.action(async (name: string | undefined, flags: { json?: boolean }) => {
    const { showBridges } = await import('./bridges.ts')
    await showBridges(readFlags(status), name ?? null, flags.json === true)
  })
  for (const [order, description] of Object.entries(ORDERS)) {
    const command = bridges.command(`${order} <name>`).description(description)
    addDataFlags(command)
    command.action(async (name: string) => {
      const { orderBridge } = await import('./bridges.ts')
      await orderBridge(readFlags(command), name, order as keyof typeof ORDERS)
    })
  }
  const test = bridges
    .command('test <topic>')
    .description('print what would go where, and send nothing')
  test.option('--bridge <name>', 'only this one')
  test.option('--json', 'as JSON')
  addDataFlags(test)
  test.action(async (topic: string, flags: { bridge?: string; json?: boolean }) => {
    const { testTopic } = await import('./bridges.ts')
    await testTopic(readFlags(test), topic, flags)
  })
}
