/**
 * A million packets for a client that is away, in a process of its own: stored, then (argv `read`) read back in
 * order, cleared one by one at the begin. Says its memory as it goes. argv: store|read FOLDER COUNT.
 */
import { createPersistence } from 'motemq/persistence'

const [what, folder, total] = process.argv.slice(2)
const COUNT = Number(total)
const AT_ONCE = 100
const persistence = createPersistence({ folder })
const broker = { id: 'b', counter: 0 }
let peak = 0
const look = () => {
  peak = Math.max(peak, process.memoryUsage.rss())
}
look()
await persistence.setup(broker)
look()

function packet(i) {
  return {
    cmd: 'publish',
    topic: `sensors/${i % 100}/temperature`,
    payload: Buffer.from(`${i}`.padEnd(64, '.')),
    qos: 1,
    retain: false,
    dup: false,
    brokerId: 'b',
    brokerCounter: i + 1
  }
}

if (what === 'store') {
  for (let i = 0; i < COUNT; i += AT_ONCE) {
    const some = []
    for (let k = i; k < Math.min(COUNT, i + AT_ONCE); k++) {
      some.push(persistence.outgoingEnqueue({ clientId: 'away' }, packet(k)))
    }
    await Promise.all(some)
    if (i % 20_000 === 0) look()
  }
} else {
  let at = 0
  for await (const { payload, messageId, brokerCounter } of persistence.outgoingStream({
    id: 'away'
  })) {
    if (parseInt(payload, 10) !== at || messageId !== undefined || brokerCounter !== at + 1) {
      throw new Error(`packet ${at} is not what it should be`)
    }
    if (at % 20_000 === 0) look()
    at++
  }
  if (at !== COUNT) throw new Error(`${at} packets instead of ${COUNT}`)
}
look()
process.stdout.write(JSON.stringify({ peak, stats: persistence.stats }))
await persistence.close()
