import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { FOLDER, openPersistence, publish, waiting } from '../support/persistence-rig.ts'
import { requiresAll } from '../support/require.ts'

const BACKLOG = fileURLToPath(new URL('../support/persistence-backlog.mjs', import.meta.url))
const COUNT = requiresAll ? 1_000_000 : 200_000
/** The goal on Node 20. Newer ones keep more of their own heap: 132 MiB on 24.21, 100 on 22.23. */
const MIB_MAX = process.version.startsWith('v20.') ? 100 : 160
const MEMORY_MAX = MIB_MAX * 1024 * 1024

/** When the machine is busy the collector comes late, and more garbage lies about: the least of three is what is needed. */
async function least(what: string, makeFolder: () => string): Promise<number> {
  let peak = Number.POSITIVE_INFINITY
  for (let i = 0; i < 3 && peak >= MEMORY_MAX; i++) {
    peak = Math.min(peak, await run(what, makeFolder()))
  }
  return peak
}

async function run(what: string, folder: string): Promise<number> {
  const child = spawn(process.execPath, [BACKLOG, what, folder, `${COUNT}`], {
    // The test runner's own options are not those of a program that uses a persistence.
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += String(chunk)
  })
  const [code] = (await once(child, 'close')) as [number | null]
  expect(code).toBe(0)
  return (JSON.parse(text) as { peak: number }).peak
}

test(`${COUNT} packets for a client that is away take a bounded memory, stored and read back in order`, async () => {
  const folders: string[] = []
  const newFolder = () => {
    const folder = mkdtempSync(join(tmpdir(), 'motemq-backlog-'))
    folders.push(folder)
    return folder
  }
  try {
    expect(await least('store', newFolder)).toBeLessThan(MEMORY_MAX)
    expect(await least('read', () => folders.at(-1)!)).toBeLessThan(MEMORY_MAX)
  } finally {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true })
  }
}, 300_000)

test('100,000 packets that come and go leave the folder as small as it was', async () => {
  const { disk, persistence } = await openPersistence()
  const used = async () => disk.capacityBytes - (await disk.space(FOLDER)).freeBytes
  // What stays must be carried along.
  await persistence.storeRetained({ ...publish('kept', 'kept'), retain: true })
  await persistence.outgoingEnqueue({ clientId: 'away' }, publish('a', 'kept'))
  await persistence.putWill({ id: 'will' }, { topic: 'w', payload: Buffer.from('kept') })
  await persistence.incomingStorePacket({ id: 'in' }, { ...publish('a', 'kept', 2), messageId: 5 })
  const client = { id: 'there' }
  let usedMax = 0
  for (let i = 0; i < 100_000; i += 250) {
    const packets = Array.from({ length: 250 }, (_, k) => ({
      ...publish('sensors/temperature', `${i + k}`.padEnd(100, '.')),
      messageId: 1 + k
    }))
    await Promise.all(packets.map(it => persistence.outgoingEnqueue({ clientId: 'there' }, it)))
    await Promise.all(packets.map(it => persistence.outgoingUpdate(client, it)))
    await Promise.all(packets.map(it => persistence.outgoingClearMessageId(client, it)))
    usedMax = Math.max(usedMax, await used())
  }
  expect(usedMax).toBeLessThan(8 * 1024 * 1024)
  expect(persistence.stats.checkpoints).toBeGreaterThan(20)
  expect(persistence.stats.segmentsRecycled).toBeGreaterThan(20)
  await persistence.close()
  const { persistence: again } = await openPersistence({ disk: disk.restart() })
  expect(await waiting(again, 'there')).toEqual([])
  expect(await waiting(again, 'away')).toEqual(['kept'])
  expect(await again.createRetainedStream('#').toArray()).toHaveLength(1)
  expect((await again.getWill({ id: 'will' }))?.payload).toEqual(Buffer.from('kept'))
  expect(await again.incomingGetPacket({ id: 'in' }, { messageId: 5 })).toMatchObject({ qos: 2 })
  await again.close()
}, 120_000)
