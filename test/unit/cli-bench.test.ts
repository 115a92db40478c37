import { expect, it } from 'vitest'
import { linesOf, type Report } from '../../src/cli/bench.ts'

function reportOf(cpuShare: number, isBottleneck: boolean): Report {
  return {
    options: {
      protocol: 'mqtt',
      layout: 'pairs',
      publishers: 1,
      subscribers: 1,
      connections: 0,
      qos: 0,
      size: 64,
      rate: 0,
      window: 10,
      durable: false
    } as Report['options'],
    published: 10,
    received: 10,
    expected: 10,
    lost: 0,
    acknowledged: 0,
    lostConnections: 0,
    seconds: 1,
    publishedPerSecond: 10,
    receivedPerSecond: 10,
    latencyUs: { mean: 1, p50: 1, p99: 1, p999: 1, max: 1 },
    bytesIn: 0,
    bytesOut: 0,
    generator: { cpuShare, isBottleneck },
    broker: null
  }
}

it('says when the generator was the bottleneck, and only then', () => {
  const line = 'the generator was the bottleneck: the broker can do more than this says'
  expect(linesOf(reportOf(0.97, true))).toContain(line)
  expect(linesOf(reportOf(0.4, false)).join('\n')).not.toContain('bottleneck')
})
