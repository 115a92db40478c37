/** `/metrics`: Prometheus' text exposition format 0.0.4. Names: `motemq_`, the unit, `_total` for counters. */
import type { BridgeState, BridgeStatus } from '../broker/bridges.ts'
import type { BrokerStats, QueueStats, StatsSource } from '../broker/stats.ts'
import type { Route } from './router.ts'

/** More queues than this are summed up only: a metric each would drown the one who reads them. */
const QUEUES_MAX = 1_000
const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export function metricsRoutes(source: StatsSource, version: string): Route[] {
  const answer = () => ({
    status: 200,
    contentType: CONTENT_TYPE,
    body: writeMetrics(source.stats(), source.queueStats(QUEUES_MAX), version)
  })
  return [{ path: '/metrics', methods: { GET: answer } }]
}

type Labels = Readonly<Record<string, string>>

class MetricsText {
  #text = ''

  family(name: string, type: 'counter' | 'gauge', help: string): void {
    this.#text += `# HELP motemq_${name} ${help}\n# TYPE motemq_${name} ${type}\n`
  }

  sample(name: string, value: number, labels: Labels = {}): void {
    const parts = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`)
    const written = parts.length === 0 ? '' : `{${parts.join(',')}}`
    this.#text += `motemq_${name}${written} ${value}\n`
  }

  counter(name: string, help: string, value: number): void {
    this.family(name, 'counter', help)
    this.sample(name, value)
  }

  gauge(name: string, help: string, value: number): void {
    this.family(name, 'gauge', help)
    this.sample(name, value)
  }

  toString(): string {
    return this.#text
  }
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

export function writeMetrics(
  stats: BrokerStats,
  queues: readonly QueueStats[],
  version: string
): string {
  const text = new MetricsText()
  text.family('info', 'gauge', 'Always 1; which version runs.')
  text.sample('info', 1, { version, node: process.version })
  text.gauge(
    'start_time_seconds',
    'When it started, in seconds since 1970.',
    stats.startedAtMs / 1000
  )
  writeTraffic(text, stats)
  writeState(text, stats)
  writeQueues(text, queues)
  if (stats.bridges.length > 0) writeBridges(text, stats.bridges)
  writeJournal(text, stats)
  writeProcess(text, stats)
  return text.toString()
}

function writeTraffic(text: MetricsText, stats: BrokerStats): void {
  const { protocols } = stats
  text.family('connections', 'gauge', 'Clients that are logged in.')
  for (const p of protocols) text.sample('connections', p.connections, { protocol: p.protocol })
  text.family('connections_total', 'counter', 'Logins that succeeded.')
  for (const p of protocols)
    text.sample('connections_total', p.connectionsTotal, { protocol: p.protocol })
  text.gauge('sockets', 'Open connections, those before their login too.', stats.connectionsOpen)
  text.counter(
    'connections_refused_total',
    'Connections closed at once: too many are open.',
    stats.connectionsRefusedTotal
  )
  text.counter(
    'connections_delayed_total',
    'Connections that waited: too many came at once.',
    stats.connectionsDelayedTotal
  )
  text.counter('login_failures_total', 'Logins that were refused.', stats.loginFailuresTotal)
  text.family('messages_received_total', 'counter', 'Messages that publishers sent.')
  for (const p of protocols) {
    for (const [qos, count] of p.receivedTotal.entries()) {
      text.sample('messages_received_total', count, { protocol: p.protocol, qos: String(qos) })
    }
  }
  text.family('messages_sent_total', 'counter', 'Deliveries handed to consumers.')
  for (const p of protocols) {
    for (const [qos, count] of p.sentTotal.entries()) {
      text.sample('messages_sent_total', count, { protocol: p.protocol, qos: String(qos) })
    }
  }
  text.counter('messages_acknowledged_total', 'Deliveries acknowledged.', stats.acknowledgedTotal)
  text.family(
    'messages_dropped_total',
    'counter',
    'Messages that did not reach somebody, by reason.'
  )
  for (const [reason, count] of stats.droppedTotal) {
    text.sample('messages_dropped_total', count, { reason })
  }
  text.family(
    'messages_dead_lettered_total',
    'counter',
    'Messages that went to a dead letter exchange and were kept, by reason.'
  )
  for (const [reason, count] of Object.entries(stats.deadLetteredTotal)) {
    text.sample('messages_dead_lettered_total', count, { reason })
  }
  text.counter('received_bytes_total', 'Bytes read from sockets.', stats.bytesInTotal)
  text.counter('sent_bytes_total', 'Bytes written to sockets.', stats.bytesOutTotal)
}

function writeState(text: MetricsText, stats: BrokerStats): void {
  text.family('sessions', 'gauge', 'MQTT sessions that outlive their connection.')
  text.sample('sessions', stats.sessionsConnected, { state: 'connected' })
  text.sample('sessions', stats.sessionsOffline, { state: 'offline' })
  text.gauge('session_messages', 'Messages that wait for sessions.', stats.sessionMessages)
  text.gauge('session_bytes', 'Bytes that wait for sessions.', stats.sessionBytes)
  text.gauge('subscriptions', 'Subscriptions.', stats.subscriptions)
  text.gauge('retained_messages', 'Retained messages.', stats.retained)
  text.gauge('retained_bytes', 'Bytes of retained messages.', stats.retainedBytes)
  text.gauge('queues', 'Queues.', stats.queueCount)
  text.gauge('messages_ready', 'Messages in queues that wait for a consumer.', stats.messagesReady)
  text.gauge('messages_unacked', 'Deliveries of queues that are open.', stats.messagesUnacked)
  text.gauge(
    'messages_held',
    'Messages in queues that wait for their next try: to be delivered, or as dead letters.',
    stats.messagesHeld
  )
  text.family('exchange_messages_delayed', 'gauge', 'Messages that an exchange holds back.')
  for (const { vhost, exchange, messages } of stats.delayed) {
    text.sample('exchange_messages_delayed', messages, { vhost, exchange })
  }
}

function writeQueues(text: MetricsText, queues: readonly QueueStats[]): void {
  const families = [
    ['queue_messages_ready', 'Messages of a queue that wait.', 'ready'],
    ['queue_messages_unacked', 'Deliveries of a queue that are open.', 'unacked'],
    [
      'queue_messages_delayed',
      'Messages of a queue that came back and wait for their time.',
      'delayed'
    ],
    ['queue_dead_letters', 'Dead letters of a queue that nobody took yet.', 'letters'],
    ['queue_bytes', 'Bytes of the messages of a queue.', 'bytes'],
    ['queue_consumers', 'Consumers of a queue.', 'consumers']
  ] as const
  for (const [name, help, key] of families) {
    text.family(name, 'gauge', help)
    for (const queue of queues) {
      text.sample(name, queue[key], { vhost: queue.vhost, queue: queue.name })
    }
  }
}

const BRIDGE_STATES: readonly BridgeState[] = [
  'connecting',
  'running',
  'stalled',
  'backing-off',
  'failed-config',
  'paused'
]

function writeBridges(text: MetricsText, bridges: readonly BridgeStatus[]): void {
  text.family('bridge_state', 'gauge', '1 for the state that a bridge is in.')
  for (const { name, state } of bridges) {
    for (const each of BRIDGE_STATES) {
      text.sample('bridge_state', each === state ? 1 : 0, { bridge: name, state: each })
    }
  }
  const families = [
    ['bridge_messages', 'gauge', 'Messages that the far side has not confirmed.', 'messages'],
    ['bridge_bytes', 'gauge', 'Bytes of them.', 'bytes'],
    ['bridge_unconfirmed', 'gauge', 'Of them, those on their way.', 'unconfirmed'],
    ['bridge_oldest_seconds', 'gauge', 'How long the oldest waits, at least.', 'oldestSeconds'],
    ['bridge_sent_total', 'counter', 'Messages sent.', 'sentTotal'],
    ['bridge_confirmed_total', 'counter', 'Messages confirmed.', 'confirmedTotal'],
    ['bridge_refused_total', 'counter', 'Refusals by the far side.', 'refusedTotal'],
    ['bridge_retried_total', 'counter', 'Messages sent again.', 'retriedTotal'],
    [
      'bridge_dead_lettered_total',
      'counter',
      'Messages given to a dead letter queue.',
      'deadLetteredTotal'
    ]
  ] as const
  for (const [name, type, help, key] of families) {
    text.family(name, type, help)
    for (const bridge of bridges) text.sample(name, bridge[key] ?? 0, { bridge: bridge.name })
  }
  text.family('bridge_dropped_total', 'counter', 'Messages given up, by reason.')
  for (const { name, droppedTotal } of bridges) {
    for (const [reason, count] of Object.entries(droppedTotal)) {
      text.sample('bridge_dropped_total', count, { bridge: name, reason })
    }
  }
}

function writeJournal(text: MetricsText, stats: BrokerStats): void {
  const { journal } = stats
  text.counter('journal_records_total', 'Records appended.', journal.records)
  text.counter('journal_batches_total', 'Batches written.', journal.batches)
  text.counter('journal_syncs_total', 'Syncs of the disk.', journal.syncs)
  text.counter('journal_written_bytes_total', 'Bytes written.', journal.bytesWritten)
  text.counter(
    'journal_zeroed_bytes_total',
    'Bytes written to prepare segments.',
    journal.bytesZeroed
  )
  text.counter('journal_checkpoints_total', 'Checkpoints.', journal.checkpoints)
  text.counter('journal_recycled_total', 'Segments recycled.', journal.segmentsRecycled)
  text.counter('journal_compacted_total', 'Records compacted.', journal.recordsCompacted)
  text.counter('journal_read_blocks_total', 'Blocks read back.', journal.blocksRead)
  text.counter('journal_damaged_batches_total', 'Damaged batches found.', journal.damagedBatches)
  text.gauge('journal_segments', 'Segments.', journal.segments)
  text.gauge('journal_live_bytes', 'Bytes that are still needed.', journal.liveBytes)
  text.gauge('journal_cached_bytes', 'Bytes of blocks in memory.', journal.cachedBytes)
  text.gauge('journal_failed', '1 after a failed write: restart it.', stats.journalFailed ? 1 : 0)
  text.family('disk_level', 'gauge', '1 for the level of free space that holds now.')
  for (const level of ['green', 'yellow', 'red'] as const) {
    text.sample('disk_level', stats.diskLevel === level ? 1 : 0, { level })
  }
}

function writeProcess(text: MetricsText, stats: BrokerStats): void {
  const memory = process.memoryUsage()
  const cpu = process.cpuUsage()
  text.gauge('loop_lag_p99_seconds', 'How late the event loop was.', stats.loopLagP99Ms / 1000)
  text.gauge('resident_memory_bytes', 'Memory of the process.', memory.rss)
  text.gauge('heap_bytes', 'Memory of JavaScript objects.', memory.heapUsed)
  text.gauge('external_memory_bytes', 'Memory of buffers.', memory.external)
  text.counter('cpu_seconds_total', 'Processor time.', (cpu.user + cpu.system) / 1e6)
}
