/** The flags of `motemq vhost` and `motemq permission`. */
import type { Command } from 'commander'
import { addDataFlags, readFlags } from './flags.ts'

export function addVhosts(program: Command): void {
  const vhosts = program.command('vhost').description('virtual hosts')
  const add = vhosts.command('add <name>').description('make one, or change its notes')
  add.option('--description <text>', 'what it is for')
  add.option('--tag <tag...>', 'tags')
  addDataFlags(add)
  add.action(async (name: string, flags: { description?: string; tag?: string[] }) => {
    const { addVhost } = await import('./vhosts.ts')
    await addVhost(readFlags(add), name, flags)
  })
  const remove = vhosts
    .command('delete <name>')
    .description('delete one with its queues, sessions and retained messages')
  addDataFlags(remove)
  remove.action(async (name: string) => {
    const { deleteVhost } = await import('./vhosts.ts')
    await deleteVhost(readFlags(remove), name)
  })
  const list = vhosts.command('list').description('list them')
  list.option('--json', 'as JSON')
  addDataFlags(list)
  list.action(async (flags: { json?: boolean }) => {
    const { listVhosts } = await import('./vhosts.ts')
    await listVhosts(readFlags(list), flags.json === true)
  })
}

interface InVhost {
  readonly p?: string
}

export function addPermissions(program: Command): void {
  const permissions = program
    .command('permission')
    .description('what users may do, by virtual host')
  const set = permissions
    .command('set <user> <configure> <write> <read>')
    .description('three regular expressions on the names of queues and exchanges')
  addVhostFlag(set)
  set.action(
    async (user: string, configure: string, write: string, read: string, { p }: InVhost) => {
      const { setPermission } = await import('./vhosts.ts')
      await setPermission(readFlags(set), user, { vhost: p ?? '/', configure, write, read })
    }
  )
  const clear = permissions.command('clear <user>').description('take them away')
  addVhostFlag(clear)
  clear.action(async (user: string, { p }: InVhost) => {
    const { clearPermission } = await import('./vhosts.ts')
    await clearPermission(readFlags(clear), user, p ?? '/')
  })
  const setTopic = permissions
    .command('set-topic <user> <exchange> <write> <read>')
    .description('regular expressions on the routing keys of a topic exchange')
  addVhostFlag(setTopic)
  setTopic.action(
    async (user: string, exchange: string, write: string, read: string, { p }: InVhost) => {
      const { setTopicPermission } = await import('./vhosts.ts')
      await setTopicPermission(readFlags(setTopic), user, {
        vhost: p ?? '/',
        exchange,
        write,
        read
      })
    }
  )
  const clearTopic = permissions.command('clear-topic <user> [exchange]')
  clearTopic.description('take those of an exchange away, or of all')
  addVhostFlag(clearTopic)
  clearTopic.action(async (user: string, exchange: string | undefined, { p }: InVhost) => {
    const { clearTopicPermission } = await import('./vhosts.ts')
    await clearTopicPermission(readFlags(clearTopic), user, p ?? '/', exchange)
  })
  const list = permissions.command('list').description('list them')
  list.option('--json', 'as JSON')
  addDataFlags(list)
  list.action(async (flags: { json?: boolean }) => {
    const { listPermissions } = await import('./vhosts.ts')
    await listPermissions(readFlags(list), flags.json === true)
  })
}

/** RabbitMQ's `-p`. */
export function addVhostFlag(command: Command): void {
  command.option('-p <vhost>', 'virtual host (default: /)')
  addDataFlags(command)
}
