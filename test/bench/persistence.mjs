/**
 * How many calls a second a persistence takes, one after the other and 100 at a time, beside the store in memory
 * that aedes-persistence brings. node test/bench/persistence.mjs [FOLDER]: the folder says which disk. Prints a table.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createPersistence } from 'motemq/persistence'

const Memory = createRequire(import.meta.url)('aedes-persistence/asyncPersistence.js')
const folder = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'motemq-bench-'))
const SECONDS = 3
const CLIENTS = 50

let counter = 0
const packet = () => ({
  cmd: 'publish',
  topic: `sensors/${counter % 100}/temperature`,
  payload: Buffer.alloc(64, 120),
  qos: 1,
  retain: false,
  dup: false,
  brokerId: 'bench',
  brokerCounter: ++counter
})

const calls = {
  storeRetained: persistence => persistence.storeRetained({ ...packet(), retain: true }),
  outgoingEnqueue: (persistence, lane) =>
    persistence.outgoingEnqueue({ clientId: `c${lane % CLIENTS}` }, packet()),
  'a QoS 1 delivery: enqueue, update, clear': async (persistence, lane) => {
    const client = { id: `d${lane}` }
    const it = { ...packet(), messageId: 1 + (counter % 65_535) }
    await persistence.outgoingEnqueue({ clientId: client.id }, it)
    await persistence.outgoingUpdate(client, it)
    await persistence.outgoingClearMessageId(client, it)
  },
  'a QoS 2 packet in: store, get, delete': async (persistence, lane) => {
    const client = { id: `e${lane}` }
    const it = { ...packet(), qos: 2, messageId: 1 }
    await persistence.incomingStorePacket(client, it)
    await persistence.incomingGetPacket(client, it)
    await persistence.incomingDelPacket(client, it)
  }
}

async function measure(persistence, call, concurrency) {
  const end = performance.now() + SECONDS * 1000
  let done = 0
  await Promise.all(
    Array.from({ length: concurrency }, async (_, lane) => {
      while (performance.now() < end) {
        await call(persistence, lane)
        done++
        // Promises alone would never let the event loop turn.
        if (done % 1000 === 0) await new Promise(resolve => setImmediate(resolve))
      }
    })
  )
  return Math.round(done / SECONDS)
}

const print = text => process.stdout.write(`${text}\n`)
print('| calls a second | motemq, 1 | motemq, 100 at once | in memory, 100 at once |')
print('|---|---:|---:|---:|')
try {
  let count = 0
  for (const [name, call] of Object.entries(calls)) {
    const persistence = createPersistence({ folder: join(folder, String(count++)) })
    await persistence.setup({ id: 'bench', counter: 0 })
    const memory = new Memory()
    await memory.setup({ id: 'bench', counter: 0 })
    const one = await measure(persistence, call, 1)
    const many = await measure(persistence, call, 100)
    const inMemory = await measure(memory, call, 100)
    print(`| ${name} | ${one} | ${many} | ${inMemory} |`)
    await persistence.close()
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
