/** `motemq bridge`: what carries messages on, asked of the running broker or tried on a topic. */
import { Mapping } from '../bridge/mapping.ts'
import { queueNameOf } from '../bridge/settings.ts'
import type { BridgeOrder, BridgeStatus } from '../broker/bridges.ts'
import type { BridgeOption } from '../config/bridge-option.ts'
import { type LoadInput, loadOptions } from '../config/load.ts'
import { filterMatches } from '../core/topic.ts'
import { printable } from '../lib/printable.ts'
import { askBroker } from './ask-broker.ts'
import { CommandError } from './exit.ts'

const MINUTE = 60
const HOUR = 3_600
const DAY = 86_400
const MIB = 2 ** 20

export async function showBridges(
  input: LoadInput,
  name: string | null,
  isJson: boolean
): Promise<void> {
  const all = (await ask(input, 'GET', '/api/bridges')) as BridgeStatus[]
  const found = name === null ? all : all.filter(bridge => bridge.name === name)
  if (name !== null && found.length === 0) {
    throw new CommandError(`there is no bridge ${JSON.stringify(name)}`)
  }
  if (isJson) process.stdout.write(`${JSON.stringify(found)}\n`)
  else if (found.length === 0) process.stdout.write('no bridge is configured\n')
  else process.stdout.write(found.map(describe).join(''))
}

function describe(bridge: BridgeStatus): string {
  const { lastError, messages, bytes, oldestSeconds, drainSeconds } = bridge
  const waits = [
    `${messages} messages`,
    bytes >= MIB ? `${(bytes / MIB).toFixed(1)} MiB` : `${bytes} bytes`,
    ...(oldestSeconds === null ? [] : [`the oldest for ${time(oldestSeconds)} or longer`]),
    `${bridge.unconfirmed} unconfirmed`
  ]
  const drops = Object.entries(bridge.droppedTotal).map(([reason, count]) => `${count} ${reason}`)
  const lines = [
    `${bridge.name}  ${bridge.state} for ${time(bridge.seconds)}  ${printable(bridge.url)}`,
    ...(lastError === '' ? [] : [`  last error   ${printable(lastError)}`]),
    `  waiting      ${waits.join(', ')}`,
    `  a second     ${bridge.inPerSecond} in, ${bridge.outPerSecond} out`,
    ...(drainSeconds === null ? [] : [`  empty in     ${time(drainSeconds)}`]),
    `  since start  ${bridge.sentTotal} sent, ${bridge.confirmedTotal} confirmed, ` +
      `${bridge.retriedTotal} sent again, ${bridge.refusedTotal} refused, ` +
      `${bridge.deadLetteredTotal} dead-lettered`,
    ...(drops.length === 0 ? [] : [`  dropped      ${drops.join(', ')}`]),
    `  queue        ${printable(bridge.queue)} of ${printable(bridge.vhost)}`
  ]
  return `${lines.join('\n')}\n`
}

function time(seconds: number): string {
  if (seconds < 2 * MINUTE) return `${seconds} s`
  if (seconds < 2 * HOUR) return `${Math.floor(seconds / MINUTE)} min`
  if (seconds < 2 * DAY) return `${Math.floor(seconds / HOUR)} h`
  return `${Math.floor(seconds / DAY)} d`
}

export async function orderBridge(
  input: LoadInput,
  name: string,
  order: BridgeOrder
): Promise<void> {
  const path = `/api/bridges/${encodeURIComponent(name)}/${order}`
  const { purged } = (await ask(input, 'POST', path)) as { purged: number }
  process.stdout.write(order === 'purge' ? `${purged} messages dropped\n` : `${order}: done\n`)
}

async function ask(input: LoadInput, method: string, path: string): Promise<unknown> {
  const { options } = await loadOptions(input)
  try {
    return await askBroker(options.data, method, path, null)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error
    throw new CommandError(`no broker runs on the data folder ${options.data}; name it with --data`)
  }
}

export interface Trial {
  readonly bridge: string
  readonly url: string
  readonly queue: string
  readonly exchange: string
  readonly key: string
  readonly headers: Readonly<Record<string, string>>
}

/** By the config file alone: nothing runs for it, nothing is sent. */
export async function testTopic(
  input: LoadInput,
  topic: string,
  { bridge: only, json = false }: { bridge?: string; json?: boolean }
): Promise<void> {
  if (topic === '' || /[+#\0]/.test(topic)) {
    throw new CommandError(`${JSON.stringify(topic)} is no topic: it has wildcards, or is empty`)
  }
  const { options } = await loadOptions(input)
  const bridges = options.bridges.filter(({ name }) => only === undefined || name === only)
  if (only !== undefined && bridges.length === 0) {
    throw new CommandError(`there is no bridge ${JSON.stringify(only)} in the config file`)
  }
  const trials = bridges.flatMap(bridge => trialsOf(bridge, topic))
  if (json) process.stdout.write(`${JSON.stringify(trials)}\n`)
  else if (trials.length === 0) process.stdout.write('no bridge carries it\n')
  for (const { bridge, url, exchange, key, headers } of json ? [] : trials) {
    const extra = Object.entries(headers).map(([name, value]) => `, header ${name}: ${value}`)
    const text = `${bridge}  ${url}  exchange ${exchange}, key ${key}${extra.join('')}`
    process.stdout.write(`${printable(text)}\n`)
  }
}

function trialsOf(bridge: BridgeOption, topic: string): Trial[] {
  // What another queue holds is not known here: its bridge is shown as if it held this.
  const isCarried =
    bridge.queue !== '' ||
    bridge.bindings.length > 0 ||
    bridge.topics.some(filter => filterMatches(filter, topic))
  if (!isCarried) return []
  const { exchange, key, headers } = new Mapping(bridge.map).targetOf(topic, 'amq.topic')
  const { name, url } = bridge
  const queue = queueNameOf(bridge)
  return [{ bridge: name, url, queue, exchange, key, headers: Object.fromEntries(headers) }]
}
