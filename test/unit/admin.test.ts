import { describe, expect, it } from 'vitest'
import { healthRoutes } from '../../src/admin/health.ts'
import { writeMetrics } from '../../src/admin/metrics.ts'
import { findRoute, HttpError, json, responseOfError, splitPath } from '../../src/admin/router.ts'
import type { BrokerStats } from '../../src/broker/stats.ts'
import { BrokerError } from '../../src/core/errors.ts'
import { LoopLag } from '../../src/lib/loop-lag.ts'

const STATS: BrokerStats = {
  startedAtMs: 1_700_000_000_000,
  protocols: [
    {
      protocol: 'mqtt',
      connections: 3,
      connectionsTotal: 7,
      receivedTotal: [10, 20, 30],
      sentTotal: [1, 2, 3]
    },
    {
      protocol: 'amqp',
      connections: 1,
      connectionsTotal: 2,
      receivedTotal: [4, 5, 0],
      sentTotal: [6, 7, 0]
    }
  ],
  socketsTotal: 3,
  sharedSubscriptions: 0,
  bytesInTotal: 1,
  bytesOutTotal: 2,
  acknowledgedTotal: 3,
  droppedTotal: new Map([
    ['queue_full', 5],
    ['expired', 0]
  ]),
  deadLetteredTotal: { expired: 1, rejected: 2, maxlen: 0, delivery_limit: 0 },
  loginFailuresTotal: 4,
  connectionsOpen: 5,
  connectionsRefusedTotal: 6,
  connectionsDelayedTotal: 7,
  sessionsConnected: 1,
  sessionsOffline: 2,
  sessionMessages: 3,
  sessionBytes: 4,
  subscriptions: 5,
  retained: 6,
  retainedBytes: 7,
  queueCount: 8,
  messagesReady: 9,
  delayed: [{ vhost: '/', exchange: 'later', messages: 12, bytes: 120 }],
  messagesUnacked: 10,
  messagesHeld: 11,
  journal: {
    records: 1,
    batches: 2,
    syncs: 3,
    bytesWritten: 4,
    bytesZeroed: 5,
    checkpoints: 6,
    segmentsRecycled: 7,
    recordsCompacted: 8,
    segments: 9,
    liveBytes: 10,
    cachedBytes: 11,
    blocksRead: 12,
    damagedBatches: 13
  },
  journalFailed: false,
  diskLevel: 'yellow',
  bridges: [],
  loopLagP99Ms: 2.5
}

describe('metrics', () => {
  const queue = {
    vhost: '/',
    name: 'a"b\\c\nd',
    ready: 1,
    unacked: 2,
    delayed: 5,
    letters: 6,
    bytes: 3,
    consumers: 4
  }
  const text = writeMetrics(STATS, [queue], '1.2.3')

  it('are lines that Prometheus reads, each family announced once before its samples', () => {
    const families = new Map<string, string>()
    let current = ''
    for (const line of text.trimEnd().split('\n')) {
      const type = /^# TYPE (\S+) (counter|gauge)$/.exec(line)
      if (type !== null) {
        expect(families.has(type[1]!), type[1]).toBe(false)
        families.set(type[1]!, type[2]!)
        current = type[1]!
        continue
      }
      if (line.startsWith('# HELP ')) continue
      const sample =
        /^([a-z0-9_]+)(?:\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\})? (-?[0-9.e+-]+)$/.exec(
          line
        )
      expect(sample, line).not.toBeNull()
      expect(sample![1]).toBe(current)
    }
    for (const [name, type] of families)
      expect(name.endsWith('_total'), name).toBe(type === 'counter')
  })

  it('tell protocols, QoS and reasons apart', () => {
    expect(text).toContain('motemq_messages_received_total{protocol="mqtt",qos="2"} 30\n')
    expect(text).toContain('motemq_messages_sent_total{protocol="amqp",qos="1"} 7\n')
    expect(text).toContain('motemq_messages_dropped_total{reason="queue_full"} 5\n')
    expect(text).toContain('motemq_disk_level{level="yellow"} 1\n')
    expect(text).toContain('motemq_disk_level{level="red"} 0\n')
    expect(text).toContain('motemq_loop_lag_p99_seconds 0.0025\n')
  })

  it('escape the names of queues', () => {
    expect(text).toContain('motemq_queue_messages_ready{vhost="/",queue="a\\"b\\\\c\\nd"} 1\n')
    expect(text).toContain('motemq_exchange_messages_delayed{vhost="/",exchange="later"} 12\n')
  })
})

describe('routes', () => {
  const answer = () => json({})
  const routes = [
    { path: '/api/users', methods: { GET: answer, POST: answer } },
    { path: '/api/users/:name', methods: { DELETE: answer } }
  ]
  const statusOf = (method: string, path: string) => {
    try {
      findRoute(routes, method, splitPath(path))
      return 200
    } catch (error) {
      if (!(error instanceof HttpError)) throw error
      return error.status
    }
  }

  it('are found by whole paths and methods', () => {
    expect(statusOf('GET', '/api/users')).toBe(200)
    expect(statusOf('HEAD', '/api/users?x=1')).toBe(200)
    expect(statusOf('DELETE', '/api/users/a%2Fb')).toBe(200)
    expect(statusOf('PUT', '/api/users')).toBe(405)
    expect(statusOf('__proto__', '/api/users')).toBe(405)
    expect(statusOf('HEAD', '/api/users/a')).toBe(405)
    for (const path of [
      '/',
      '/api',
      '/api/users/a/b',
      '/api/users/',
      '/API/users',
      '/api/../api/users'
    ]) {
      expect(statusOf('GET', path), path).toBe(path === '/api/users/' ? 405 : 404)
    }
    expect(statusOf('GET', '/api/%zz')).toBe(400)
    expect(statusOf('GET', 'http://x/api')).toBe(400)
  })

  it('decode the parts of a path one by one', () => {
    expect(splitPath('/api/users/a%2Fb?c=d')).toEqual(['api', 'users', 'a/b'])
  })

  it('tell a peer of refusals, not of bugs', () => {
    expect(responseOfError(new BrokerError('notFound', 'no'))).toMatchObject({ status: 404 })
    expect(responseOfError(new BrokerError('diskAlarm', 'no'))).toMatchObject({ status: 503 })
    expect(responseOfError(new TypeError('x'))).toBeNull()
  })
})

describe('health', () => {
  const ask = async (
    path: string,
    journalFailed: boolean,
    diskLevel: 'green' | 'red',
    isServing = true
  ) => {
    const source = { isServing: () => isServing, stats: () => ({ journalFailed, diskLevel }) }
    const handler = findRoute(healthRoutes(source), 'GET', splitPath(path))
    return (await handler({ method: 'GET', parts: [], readJson: async () => undefined })).status
  }

  it('is alive until the journal has failed', async () => {
    expect(await ask('/healthz', false, 'red', false)).toBe(200)
    expect(await ask('/healthz', true, 'green')).toBe(503)
  })

  it('is ready when it listens and can keep what it is given', async () => {
    expect(await ask('/readyz', false, 'green')).toBe(200)
    expect(await ask('/readyz', false, 'green', false)).toBe(503)
    expect(await ask('/readyz', false, 'red')).toBe(503)
    expect(await ask('/readyz', true, 'green')).toBe(503)
  })
})

describe('LoopLag', () => {
  it('knows the lag that 99 of 100 samples were not above', () => {
    const lag = new LoopLag()
    expect(lag.p99Ms()).toBe(0)
    for (let i = 0; i < 99; i++) lag.record(1)
    lag.record(50)
    expect(lag.p99Ms()).toBe(1)
    lag.record(60)
    expect(lag.p99Ms()).toBe(50)
    for (let i = 0; i < 600; i++) lag.record(-3)
    expect(lag.p99Ms()).toBe(0)
  })
})
