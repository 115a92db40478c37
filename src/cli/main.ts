/** The command line: `motemq` alone is `motemq start`. */
import { Command, CommanderError } from 'commander'
import { suggest } from '../lib/suggest.ts'
import { VERSION } from '../lib/version.ts'
import { addBridges } from './bridge-flags.ts'
import { addCerts } from './certs-flags.ts'
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE, endingOf, printLines } from './exit.ts'
import { addDataFlags, addOptionFlags, readFlags } from './flags.ts'
import { addDefinitions, addPermissions, addPolicies, addQueues, addVhosts } from './vhost-flags.ts'

/** Runs the command that `argv` (as of `process.argv`) names; sets the exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  const program = makeProgram()
  const words = argv.slice(2)
  if (await ranMosquittoCommand(words)) return
  if (!isStart(words[0])) process.stdout.on('error', onOutputLost)
  const unknown = unknownCommand(program, words[0])
  if (unknown !== null) {
    printLines([unknown])
    process.exitCode = EXIT_USAGE
    return
  }
  try {
    await program.parseAsync(words, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? EXIT_OK : EXIT_USAGE
      return
    }
    const { exitCode, lines } = endingOf(error)
    printLines(lines)
    process.exitCode = exitCode
  }
}

/** Its log is a stream of its own, and losing it ends no broker. */
function isStart(word: string | undefined): boolean {
  return word === undefined || word === 'start' || word.startsWith('-')
}

/** Whoever read the output (`| head`) has enough, and so have we; what could not be written otherwise is a failure. */
function onOutputLost(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(EXIT_OK)
  printLines([`standard output: ${error.message}`])
  process.exit(EXIT_FAILED)
}

/** Their flags are Mosquitto's, such as `-h` for the host: commander must not read them. */
async function ranMosquittoCommand([name, ...words]: readonly string[]): Promise<boolean> {
  if (name === 'pub') {
    const { publish } = await import('./pub.ts')
    await publish(words)
    return true
  }
  if (name === 'sub') {
    const { subscribe } = await import('./sub.ts')
    await subscribe(words)
    return true
  }
  return false
}

/** With a default command commander would take a mistyped command for an argument of it. */
function unknownCommand(program: Command, word: string | undefined): string | null {
  if (word === undefined || word.startsWith('-')) return null
  const known = [...program.commands.map(command => command.name()), 'help']
  if (known.includes(word)) return null
  const near = suggest(word, known)
  const hint = near === null ? 'see motemq --help' : `did you mean ${near}?`
  return `there is no command ${JSON.stringify(word)}; ${hint}`
}

function makeProgram(): Command {
  const program = new Command('motemq')
  program
    .description('An MQTT broker with AMQP 0-9-1 queues')
    .version(VERSION, '-V, --version', 'show the version')
    .helpOption('-h, --help', 'show this help')
    .addHelpText('after', '\nThe options of the broker: motemq start --help')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'motemq: ')) })
  addStart(program)
  addUsers(program)
  addVhosts(program)
  addQueues(program)
  addPermissions(program)
  addPolicies(program)
  addDefinitions(program)
  addBridges(program)
  addDrain(program)
  addConfig(program)
  addDemo(program)
  addBench(program)
  // For the list of commands: `ranMosquittoCommand` runs them.
  program.command('pub').description('publish messages: the flags of mosquitto_pub')
  program.command('sub').description('print messages: the flags of mosquitto_sub')
  addCerts(program)
  program
    .command('version')
    .description('show the version')
    .action(() => {
      process.stdout.write(`${VERSION}\n`)
    })
  return program
}

function addStart(program: Command): void {
  const command = program
    .command('start', { isDefault: true })
    .description('run the broker (the command when none is given)')
    .allowExcessArguments(false)
  addOptionFlags(command)
  command.action(async () => {
    const { start } = await import('./start.ts')
    await start(readFlags(command))
  })
}

function addUsers(program: Command): void {
  const users = program.command('users').description('who may connect')
  const add = users.command('add <name>').description('make a user')
  add.option('--tag <tag...>', 'tags of the user, such as administrator')
  addPasswordFlags(add)
  addDataFlags(add)
  add.action(async (name: string, flags: { tag?: string[] }) => {
    const { addUser } = await import('./users.ts')
    await addUser(readFlags(add), name, flags)
  })
  const passwd = users.command('passwd <name>').description('change a password')
  addPasswordFlags(passwd)
  addDataFlags(passwd)
  passwd.action(async (name: string, flags: object) => {
    const { changePassword } = await import('./users.ts')
    await changePassword(readFlags(passwd), name, flags)
  })
  const list = users.command('list').description('list the users')
  list.option('--json', 'as JSON')
  addDataFlags(list)
  list.action(async (flags: { json?: boolean }) => {
    const { listUsers } = await import('./users.ts')
    await listUsers(readFlags(list), flags.json === true)
  })
  const remove = users.command('remove <name>').description('remove a user')
  addDataFlags(remove)
  remove.action(async (name: string) => {
    const { removeUser } = await import('./users.ts')
    await removeUser(readFlags(remove), name)
  })
  const hash = users.command('hash').description('print a hash for passwordHash in a config file')
  addPasswordFlags(hash)
  hash.action(async (flags: object) => {
    const { printHash } = await import('./users.ts')
    await printHash(flags)
  })
}

function addDemo(program: Command): void {
  program
    .command('demo')
    .description(
      '20 simulated sensors, a queue and a consumer; ends with a sum that must come out even'
    )
    .option(
      '--url <url>',
      'broker to use (else MOTEMQ_URL, mqtt://127.0.0.1:1883); none there: its own'
    )
    .option('--amqp <url>', 'its AMQP URL (else port 5672 of the same host)')
    .option('--metrics <url>', 'its counters (else http://HOST:15672/metrics)')
    .option('--seconds <number>', 'how long the sensors publish (default: 10)')
    .allowExcessArguments(false)
    .action(async (flags: object) => {
      const { demo } = await import('./demo.ts')
      await demo(flags)
    })
}

function addBench(program: Command): void {
  program
    .command('bench')
    .description('put load on a broker and measure it')
    .option('--url <url>', 'broker (else MOTEMQ_URL, mqtt://127.0.0.1:1883)')
    .option('--amqp [url]', 'over AMQP 0-9-1, amqps: with TLS (default: amqp://127.0.0.1:5672)')
    .option('--layout <word>', 'pairs, fan-in or fan-out (default: pairs)')
    .option('--publishers <number>', 'default: 10, with fan-out 1')
    .option(
      '--subscribers <number>',
      'default: as many as publishers, with fan-in 1, with fan-out 100'
    )
    .option('--connections <number>', 'more connections that do nothing (default: 0)')
    .option(
      '--qos <number>',
      '0, 1 or 2; with --amqp 1 is with confirms and acknowledgements (default: 0)'
    )
    .option('--size <bytes>', 'payload (default: 64)')
    .option('--window <number>', 'messages of a publisher on their way at most (default: 100)')
    .option('--rate <number>', 'messages a second, all publishers together, in place of a window')
    .option('--seconds <number>', 'default: 10')
    .option('--prefetch <number>', 'with --amqp: open deliveries of a consumer (default: 0, any)')
    .option(
      '--durable',
      'sessions of the subscribers that outlive their connections; with --amqp durable queues and messages'
    )
    .option('--mqtt <version>', '3.1, 3.1.1 or 5 (default: 5)')
    .option('--topic <topic>', 'topics begin with it (default: bench/ and a random name)')
    .option('--pid <number>', 'the broker on this machine: its processor time and memory')
    .option('--json', 'as JSON')
    .allowExcessArguments(false)
    .action(async (flags: object) => {
      const { bench } = await import('./bench.ts')
      await bench(flags)
    })
}

function addDrain(program: Command): void {
  const command = program
    .command('drain')
    .description('send the MQTT clients of a running broker to another one')
  command.option('--to <reference>', 'servers that MQTT 5 clients are told, such as host:1883')
  command.option('--moved', 'for good: clients are not to come back')
  command.option('--off', 'take clients again')
  addDataFlags(command)
  command.action(async (flags: { to?: string; moved?: boolean; off?: boolean }) => {
    const { drain } = await import('./drain.ts')
    await drain(readFlags(command), flags)
  })
}

function addPasswordFlags(command: Command): void {
  command.option('--password-stdin', 'read the password from standard input')
  command.option('--generate', 'make a password and show it once')
}

function addConfig(program: Command): void {
  const config = program.command('config').description('the configuration')
  const print = config.command('print').description('show each option, its value and its source')
  addOptionFlags(print)
  print.action(async () => {
    const { printConfig } = await import('./config.ts')
    await printConfig(readFlags(print))
  })
  const check = config.command('check').description('look for mistakes, start nothing')
  addOptionFlags(check)
  check.action(async () => {
    const { checkConfig } = await import('./config.ts')
    await checkConfig(readFlags(check))
  })
}
