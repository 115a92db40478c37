/** `motemq bench`: load on a broker, and what came of it. */
import { randomBytes } from 'node:crypto'
import { type AmqpTarget, parseAmqpUrl } from '../client/amqp-client.ts'
import { parseTarget } from '../client/target.ts'
import { HEAD_BYTES, type Layout, Load, type LoadOptions, type LoadResult } from './bench-load.ts'
import { MQTT_PEERS } from './bench-mqtt.ts'
import { CommandError, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from './exit.ts'
import { type ProcessUsage, readProcessUsage } from './process-usage.ts'

export interface BenchFlags {
  readonly url?: string
  readonly layout?: string
  readonly publishers?: string
  readonly subscribers?: string
  readonly connections?: string
  readonly qos?: string
  readonly size?: string
  readonly window?: string
  readonly rate?: string
  readonly seconds?: string
  readonly durable?: boolean
  readonly mqtt?: string
  /** An AMQP URL; true: the usual one. */
  readonly amqp?: string | boolean
  readonly prefetch?: string
  readonly topic?: string
  readonly pid?: string
  readonly json?: boolean
}

/** Above this share of a core the generator measures itself. */
const BUSY_SHARE = 0.9
const LAYOUTS: readonly string[] = ['pairs', 'fan-in', 'fan-out'] satisfies Layout[]
const AMQP_URL = 'amqp://127.0.0.1:5672'
const VERSIONS: Readonly<Record<string, 3 | 4 | 5>> = { '3.1': 3, '3.1.1': 4, '5': 5 }

export interface Report {
  readonly options: Omit<LoadOptions, 'url' | 'amqp'> & { readonly protocol: 'mqtt' | 'amqp' }
  readonly published: number
  readonly received: number
  readonly expected: number
  readonly lost: number
  readonly acknowledged: number
  readonly lostConnections: number
  readonly seconds: number
  readonly publishedPerSecond: number
  readonly receivedPerSecond: number
  readonly latencyUs: { mean: number; p50: number; p99: number; p999: number; max: number }
  readonly bytesIn: number
  readonly bytesOut: number
  readonly generator: { cpuShare: number; isBottleneck: boolean }
  readonly broker: { cpuUsPerDelivery: number; cpuShare: number; residentBytes: number } | null
}

export async function bench(flags: BenchFlags): Promise<void> {
  const options = readOptions(flags)
  const pid = flags.pid === undefined ? null : count(flags.pid, '--pid', 1)
  const peers = options.amqp === null ? MQTT_PEERS : (await import('./bench-amqp.ts')).AMQP_PEERS
  const load = new Load(options, peers)
  try {
    await load.open()
    const before = pid === null ? null : readProcessUsage(pid)
    const cpu = process.cpuUsage()
    const startedAt = performance.now()
    const result = await load.run()
    const used = process.cpuUsage(cpu)
    // The draining at the end is mostly waiting: the time of the load is what counts.
    const busyUs = Math.max(options.seconds, result.elapsedSeconds) * 1e6
    const share =
      (used.user + used.system) / Math.min(busyUs, (performance.now() - startedAt) * 1e3)
    const after = pid === null ? null : readProcessUsage(pid)
    const report = makeReport(options, result, share, before, after)
    print(report, flags.json === true)
    process.exitCode = report.lost === 0 && report.lostConnections === 0 ? EXIT_OK : EXIT_FAILED
  } finally {
    await load.close()
  }
}

function readOptions(flags: BenchFlags): LoadOptions {
  const url = parseTarget(flags.url ?? process.env['MOTEMQ_URL'] ?? 'mqtt://127.0.0.1:1883')
  if (typeof url === 'string') throw new CommandError(`--url: ${url}`, EXIT_USAGE)
  const layout = flags.layout ?? 'pairs'
  if (!LAYOUTS.includes(layout)) {
    throw new CommandError(`--layout: one of ${LAYOUTS.join(', ')}`, EXIT_USAGE)
  }
  const amqp = readAmqp(flags)
  const version = VERSIONS[flags.mqtt ?? '5']
  if (version === undefined) throw new CommandError('--mqtt: 3.1, 3.1.1 or 5', EXIT_USAGE)
  const publishers = count(
    flags.publishers ?? (layout === 'fan-out' ? '1' : '10'),
    '--publishers',
    1
  )
  const defaults = { pairs: publishers, 'fan-in': 1, 'fan-out': 100 }
  const asked = flags.subscribers ?? String(defaults[layout as Layout])
  const subscribers = count(asked, '--subscribers', 0)
  if (layout === 'pairs' && subscribers > publishers) {
    throw new CommandError('--subscribers: with pairs at most as many as publishers', EXIT_USAGE)
  }
  return {
    url,
    amqp,
    layout: layout as Layout,
    publishers,
    subscribers,
    connections: count(flags.connections ?? '0', '--connections', 0),
    qos: count(flags.qos ?? '0', '--qos', 0, amqp === null ? 2 : 1),
    size: count(flags.size ?? '64', '--size', HEAD_BYTES, 256 * 1024 * 1024),
    window: count(flags.window ?? '100', '--window', 1, 65_535),
    rate: count(flags.rate ?? '0', '--rate', 0),
    seconds: count(flags.seconds ?? '10', '--seconds', 1),
    durable: flags.durable === true,
    prefetch: count(flags.prefetch ?? '0', '--prefetch', 0, 65_535),
    version,
    topic: flags.topic ?? `bench/${randomBytes(4).toString('hex')}`
  }
}

function readAmqp(flags: BenchFlags): AmqpTarget | null {
  if (flags.amqp === undefined || flags.amqp === false) return null
  for (const name of ['url', 'mqtt'] as const) {
    if (flags[name] !== undefined) throw new CommandError(`--${name}: not with --amqp`, EXIT_USAGE)
  }
  const target = parseAmqpUrl(flags.amqp === true ? AMQP_URL : flags.amqp)
  if (typeof target === 'string') throw new CommandError(`--amqp: ${target}`, EXIT_USAGE)
  return target
}

function count(text: string, flag: string, min: number, max = 2 ** 31 - 1): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= min && value <= max) return value
  throw new CommandError(`${flag}: a whole number from ${min} to ${max}`, EXIT_USAGE)
}

function makeReport(
  { url: _url, amqp, ...options }: LoadOptions,
  result: LoadResult,
  share: number,
  before: ProcessUsage | null,
  after: ProcessUsage | null
): Report {
  const { published, received, expected, latency } = result
  const hasReceivers = options.subscribers > 0
  const seconds = hasReceivers ? result.elapsedSeconds : options.seconds
  const perSecond = (value: number): number => (seconds > 0 ? Math.round(value / seconds) : 0)
  const deliveries = hasReceivers ? received : published
  const brokerUs = before === null || after === null ? 0 : after.cpuUs - before.cpuUs
  return {
    options: { ...options, protocol: amqp === null ? 'mqtt' : 'amqp' },
    published,
    received,
    expected,
    lost: Math.max(0, expected - received),
    acknowledged: result.acknowledged,
    lostConnections: result.lostConnections,
    seconds: round(seconds, 3),
    publishedPerSecond: perSecond(published),
    receivedPerSecond: perSecond(received),
    latencyUs: {
      mean: Math.round(latency.mean),
      p50: latency.quantile(0.5),
      p99: latency.quantile(0.99),
      p999: latency.quantile(0.999),
      max: latency.max
    },
    bytesIn: result.bytesIn,
    bytesOut: result.bytesOut,
    generator: { cpuShare: round(share, 3), isBottleneck: share > BUSY_SHARE },
    broker:
      after === null
        ? null
        : {
            cpuUsPerDelivery: round(brokerUs / Math.max(1, deliveries), 2),
            cpuShare: round(brokerUs / (seconds * 1e6), 3),
            residentBytes: after.residentBytes
          }
  }
}

function round(value: number, digits: number): number {
  return Math.round(value * 10 ** digits) / 10 ** digits
}

function print(report: Report, isJson: boolean): void {
  const lines = isJson ? [JSON.stringify(report)] : linesOf(report)
  process.stdout.write(`${lines.join('\n')}\n`)
}

/** What `motemq bench` prints for people. */
export function linesOf(report: Report): string[] {
  const { options, latencyUs, generator, broker } = report
  const { layout, publishers, subscribers, qos, size, rate, window } = options
  const pace = rate > 0 ? `${rate} messages/s` : `window ${window}`
  const lines = [
    `${layout}: ${publishers} publishers, ${subscribers} subscribers, ${options.connections} more connections; ${kind(options)}, ${size} bytes, ${pace}`,
    `published  ${report.published}  ${report.publishedPerSecond}/s`,
    `received   ${report.received}  ${report.receivedPerSecond}/s  (${report.expected} expected, ${report.lost} lost)`,
    `latency    p50 ${ms(latencyUs.p50)}  p99 ${ms(latencyUs.p99)}  p99.9 ${ms(latencyUs.p999)}  max ${ms(latencyUs.max)}`,
    `wire       ${mib(report.bytesOut)} sent, ${mib(report.bytesIn)} received`,
    `generator  ${percent(generator.cpuShare)} of a core`
  ]
  if (qos > 0) lines.splice(2, 0, `acknowledged  ${report.acknowledged}`)
  if (broker !== null) {
    lines.push(
      `broker     ${broker.cpuUsPerDelivery} µs of processor time a delivery, ${percent(broker.cpuShare)} of a core, ${mib(broker.residentBytes)} resident`
    )
  }
  if (report.lostConnections > 0) lines.push(`${report.lostConnections} connections were lost`)
  if (generator.isBottleneck) {
    lines.push('the generator was the bottleneck: the broker can do more than this says')
  }
  return lines
}

function kind({ protocol, qos, durable, prefetch }: Report['options']): string {
  if (protocol === 'mqtt') return `QoS ${qos}, ${durable ? 'durable' : 'clean'} sessions`
  const acks =
    qos === 0 ? 'no acknowledgements' : `acknowledgements and confirms, prefetch ${prefetch}`
  return `AMQP, ${acks}, ${durable ? 'durable queues' : 'queues in memory'}`
}

function ms(us: number): string {
  return `${(us / 1_000).toFixed(2)} ms`
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}
