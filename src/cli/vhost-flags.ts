/** The flags of `motemq vhost`, `motemq permission` and `motemq policy`. */
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
  const trace = vhosts.command('trace <on|off> <name>')
  trace.description('publish each of its messages to amq.rabbitmq.trace as well, until a restart')
  addDataFlags(trace)
  trace.action(async (word: string, name: string) => {
    const { traceVhost } = await import('./trace.ts')
    await traceVhost(readFlags(trace), word, name)
  })
  const list = vhosts.command('list').description('list them')
  list.option('--json', 'as JSON')
  addDataFlags(list)
  list.action(async (flags: { json?: boolean }) => {
    const { listVhosts } = await import('./vhosts.ts')
    await listVhosts(readFlags(list), flags.json === true)
  })
}

export function addQueues(program: Command): void {
  const queues = program.command('queue').description('queues')
  const list = queues.command('list').description('list them and those of MQTT sessions')
  list.option('--json', 'as JSON')
  addDataFlags(list)
  list.action(async (flags: { json?: boolean }) => {
    const { listQueues } = await import('./vhosts.ts')
    await listQueues(readFlags(list), flags.json === true)
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

export function addPolicies(program: Command): void {
  const policies = program
    .command('policy')
    .description('what holds for all queues and exchanges whose names match')
  const set = policies
    .command('set <name> <pattern> <definition>')
    .description('a regular expression on names, and JSON such as {"max-length": 1000}')
  set.option('--priority <number>', 'of several that match the highest holds (default: 0)')
  set.option(
    '--apply-to <word>',
    'queues, exchanges, classic_queues, quorum_queues, streams or all'
  )
  addPolicyFlags(set)
  set.action(async (name: string, pattern: string, definition: string, flags: object) => {
    const { setPolicy } = await import('./policies.ts')
    await setPolicy(readFlags(set), name, pattern, definition, flags)
  })
  const clear = policies.command('clear <name>').description('take one away')
  addPolicyFlags(clear)
  clear.action(async (name: string, flags: object) => {
    const { clearPolicy } = await import('./policies.ts')
    await clearPolicy(readFlags(clear), name, flags)
  })
  const list = policies.command('list').description('list them')
  list.option('--json', 'as JSON')
  addDataFlags(list)
  list.action(async (flags: { json?: boolean }) => {
    const { listPolicies } = await import('./policies.ts')
    await listPolicies(readFlags(list), flags.json === true)
  })
}

export function addDefinitions(program: Command): void {
  const definitions = program
    .command('definitions')
    .description("all that is declared, in RabbitMQ's JSON")
  const write = definitions
    .command('export [file]')
    .description('write it to a file, or to standard output')
  addDataFlags(write)
  write.action(async (file: string | undefined) => {
    const { exportDefinitions } = await import('./definitions.ts')
    await exportDefinitions(readFlags(write), file)
  })
  const read = definitions
    .command('import <file>')
    .description('take what a file (- is standard input) has; what is there stays')
  read.option('-p <vhost>', 'virtual host of entries that name none')
  addDataFlags(read)
  read.action(async (file: string, { p }: InVhost) => {
    const { importDefinitions } = await import('./definitions.ts')
    await importDefinitions(readFlags(read), file, p)
  })
}

function addPolicyFlags(command: Command): void {
  command.option('--operator', 'an operator policy: it can only make bounds tighter')
  addVhostFlag(command)
}

/** RabbitMQ's `-p`. */
export function addVhostFlag(command: Command): void {
  command.option('-p <vhost>', 'virtual host (default: /)')
  addDataFlags(command)
}
