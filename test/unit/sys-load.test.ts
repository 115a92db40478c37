import { describe, expect, it } from 'vitest'
import { Counters } from '../../src/broker/counters.ts'
import { LOAD_NAMES, SysLoad } from '../../src/broker/sys-load.ts'

const MINUTE = 60_000

function receivedLoads(load: SysLoad): string[] {
  return load.averages[LOAD_NAMES.indexOf('publish/received')]!.map(value => value.toFixed(1))
}

describe('loads', () => {
  it('come near a steady rate a minute, the short span first, and fade when nothing comes', () => {
    const counters = new Counters()
    const load = new SysLoad(0)
    const minutes = (count: number, perMinute: number, from: number) => {
      for (let i = 1; i <= count * 6; i++) {
        counters.mqttReceived[1]! += perMinute / 6
        const traffic = { bytesInTotal: 0, bytesOutTotal: 0, socketsTotal: 0 }
        load.update(counters, traffic, from + (i * MINUTE) / 6)
      }
    }
    minutes(1, 600, 0)
    // 1 - e^-1, 1 - e^-1/5, 1 - e^-1/15
    expect(receivedLoads(load)).toEqual(['379.3', '108.8', '38.7'])
    minutes(120, 600, MINUTE)
    expect(receivedLoads(load)).toEqual(['600.0', '600.0', '599.8'])
    minutes(5, 0, 121 * MINUTE)
    expect(receivedLoads(load)).toEqual(['4.0', '220.7', '429.8'])
  })

  it('do not depend on how often they are renewed', () => {
    const loads = [1, 60].map(steps => {
      const counters = new Counters()
      const load = new SysLoad(0)
      for (let i = 1; i <= steps; i++) {
        counters.mqttConnectionsTotal += 60 / steps
        const traffic = { bytesInTotal: i * (6_000 / steps), bytesOutTotal: 0, socketsTotal: 0 }
        load.update(counters, traffic, (i * MINUTE) / steps)
      }
      return ['connections', 'bytes/received'].map(name =>
        load.averages[LOAD_NAMES.indexOf(name as 'connections')]!.map(value => value.toFixed(3))
      )
    })
    expect(loads[0]).toEqual(loads[1])
  })

  it('ignore a call in the same moment', () => {
    const load = new SysLoad(5)
    load.update(new Counters(), { bytesInTotal: 1, bytesOutTotal: 0, socketsTotal: 0 }, 5)
    expect(load.averages.flat().every(value => value === 0)).toBe(true)
  })
})
