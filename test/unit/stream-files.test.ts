import { describe, expect, it } from 'vitest'
import { type NewBlock, STREAM_HEADER_BYTES, type StreamLog } from '../../src/journal/journal.ts'
import { openStreamFiles } from '../../src/journal/stream-files.ts'
import { SimulatedDisk } from '../support/simulated-disk.ts'

const SEGMENT = 16_000

function block(first: number, count: number, time = first, size = 1_600): NewBlock {
  const buffer = Buffer.alloc(STREAM_HEADER_BYTES + count * (4 + size), first & 0xff)
  for (let i = 0; i < count; i++) buffer.writeUInt32BE(size, STREAM_HEADER_BYTES + i * (4 + size))
  return { first, count, wallTime: time, storeTime: time, buffer }
}

async function logOn(disk: SimulatedDisk, lines: string[] = []): Promise<StreamLog> {
  const log = (_level: string, message: string) => void lines.push(message)
  return (await openStreamFiles('/d', disk, log, { close: () => Promise.resolve() })).logOf(7)
}

/** The numbers of all that can be read, one block after the other. */
async function numbers(log: StreamLog): Promise<number[]> {
  const found: number[] = []
  let next = log.first
  for (let place = null; ; ) {
    const read = await log.load(next, place)
    if (read === null) return found
    for (let i = 0; i < read.count; i++) found.push(read.first + i)
    next = read.first + read.count
    place = read.next as never
  }
}

function names(disk: SimulatedDisk): Promise<string[]> {
  return disk.list('/d/streams')
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i)
}

describe('the files of a stream', () => {
  it('are in files of a bounded size, and read in order', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    const log = await logOn(disk)
    expect([log.first, log.last]).toEqual([1, 0])
    for (let i = 0; i < 10; i++) await log.append([block(1 + i * 5, 5)], SEGMENT)
    expect([log.first, log.last]).toEqual([1, 50])
    expect(await numbers(log)).toEqual(range(1, 50))
    expect(await names(disk)).toHaveLength(5)
    // One block may be larger.
    await log.append([block(51, 20), block(71, 1)], SEGMENT)
    expect(await names(disk)).toHaveLength(7)
    expect(await numbers(log)).toEqual(range(1, 71))
  })

  it('are the same for the next start, which goes on in the newest', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    await (await logOn(disk)).append([block(1, 5, 11), block(6, 5, 12)], SEGMENT * 10)
    const log = await logOn(disk)
    expect([log.first, log.last, log.newestWallTime]).toEqual([1, 10, 12])
    await log.append([block(11, 5)], SEGMENT * 10)
    expect(await names(disk)).toHaveLength(1)
    expect(await numbers(await logOn(disk))).toEqual(range(1, 15))
  })

  it('a torn end is left where it is: what comes begins a file of its own', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    await (await logOn(disk)).append([block(1, 5), block(6, 5)], SEGMENT * 10)
    const path = `/d/streams/${(await names(disk))[0]}`
    disk.put(path, disk.bytesOf(path).subarray(0, 8_200))
    const log = await logOn(disk)
    expect([log.first, log.last]).toEqual([1, 5])
    await log.append([block(6, 2)], SEGMENT * 10)
    expect(await numbers(log)).toEqual(range(1, 7))
    expect(await names(disk)).toHaveLength(2)
    expect(await numbers(await logOn(disk))).toEqual(range(1, 7))
  })

  it('a newest file in which nothing is whole does not hide what stands before it', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    const before = await logOn(disk)
    await before.append([block(1, 5), block(6, 5)], SEGMENT)
    disk.put('/d/streams/7-0000000000000011.stream', Buffer.alloc(4_096))
    const log = await logOn(disk)
    expect(log.last).toBe(10)
    await log.append([block(11, 5)], SEGMENT)
    expect(await numbers(log)).toEqual(range(1, 15))
    await log.remove()
    expect(await names(disk)).toEqual([])
  })

  it('a damaged block costs what is in it, and is told of', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    await (await logOn(disk)).append([block(1, 5), block(6, 5), block(11, 5)], SEGMENT * 10)
    const path = `/d/streams/${(await names(disk))[0]}`
    const bytes = Buffer.from(disk.bytesOf(path))
    bytes[STREAM_HEADER_BYTES + 8_020 + STREAM_HEADER_BYTES + 50]! ^= 1
    disk.put(path, bytes)
    const lines: string[] = []
    const log = await logOn(disk, lines)
    expect(await numbers(log)).toEqual([...range(1, 5), ...range(11, 15)])
    expect(lines.some(line => line.includes('damaged'))).toBe(true)
  })

  it('the oldest leave by bytes and by age, never the newest', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    const log = await logOn(disk)
    for (let i = 0; i < 10; i++) await log.append([block(1 + i * 10, 10, 1_000 * i)], SEGMENT)
    await log.trim(-1, 3_000)
    // What came in the last block before that time may be younger.
    expect(log.first).toBe(21)
    await log.trim(50_000, Number.NEGATIVE_INFINITY)
    expect(log.first).toBe(71)
    expect(await numbers(log)).toEqual(range(71, 100))
    await log.trim(0, 1e9)
    expect([log.first, log.last]).toEqual([91, 100])
    expect(await numbers(await logOn(disk))).toEqual(range(91, 100))
  })

  it('finds the block that had begun at a time', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    const log = await logOn(disk)
    for (let i = 0; i < 10; i++) await log.append([block(1 + i * 5, 5, 1_000 * i)], SEGMENT)
    expect(await log.findTime(-1)).toBe(1)
    expect(await log.findTime(0)).toBe(1)
    expect(await log.findTime(2_999)).toBe(11)
    expect(await log.findTime(3_000)).toBe(16)
    expect(await log.findTime(1e9)).toBe(46)
  })

  it('a write that fails counts for nothing, and the next one does not touch that file', async () => {
    const disk = new SimulatedDisk({ seed: 1 })
    const log = await logOn(disk)
    await log.append([block(1, 5)], SEGMENT * 10)
    for (const fault of [{ bytes: 100 }, { code: 'EIO' }]) {
      for (const call of ['write', 'sync'] as const) {
        if (call === 'sync' && 'bytes' in fault) continue
        const first = log.last + 1
        disk.intercept = seen => (seen === call ? fault : null)
        await expect(log.append([block(first, 5)], SEGMENT * 10)).rejects.toThrow()
        disk.intercept = null
        expect(log.last).toBe(first - 1)
        await log.append([block(first, 3), block(first + 3, 4)], SEGMENT * 10)
      }
    }
    expect(await numbers(log)).toEqual(range(1, 26))
    expect(await numbers(await logOn(disk))).toEqual(range(1, 26))
  })

  it('a hole that a crash tore is cut off with what stands behind it, one that is damage is not', async () => {
    for (const isElsewhere of [true, false]) {
      const disk = new SimulatedDisk({ seed: 1 })
      const before = await logOn(disk)
      await before.append([block(1, 5)], SEGMENT * 10)
      await before.append([block(6, 5), block(11, 5)], SEGMENT * 10)
      const path = `/d/streams/${(await names(disk))[0]}`
      const bytes = Buffer.from(disk.bytesOf(path))
      bytes[8_192 + 100]! ^= 1
      disk.put(path, bytes)
      const log = await logOn(disk)
      const asked: number[] = []
      log.cutTornEnd((from, to) => {
        asked.push(from, to)
        return isElsewhere
      })
      expect(asked).toEqual([6, 10])
      expect(log.last).toBe(isElsewhere ? 5 : 15)
      await log.append([block(log.last + 1, 2)], SEGMENT * 10)
      const left = isElsewhere ? range(1, 7) : [...range(1, 5), ...range(11, 17)]
      expect(await numbers(log)).toEqual(left)
    }
  })
})
