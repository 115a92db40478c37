/**
 * A process that uses a persistence and is killed. `run FOLDER SEED START...`: lanes that make their calls from
 * START on, a line on standard output for each that resolved. `dump FOLDER LANES`: what is there, as JSON.
 */
import { say } from './say.mjs'
import { JournalPersistence } from '../../dist/persistence/persistence.js'
import { realParts } from '../../dist/persistence/options.js'
import { call, dump, moves } from './persistence-moves.mjs'

const [what, folder, ...rest] = process.argv.slice(2)
// Small, so that segments are emptied and checkpoints written within one run.
const limits = { segmentBytes: 256 * 1024, checkpointBytes: 512 * 1024, deadBytesMax: 256 * 1024 }
const persistence = new JournalPersistence({ folder }, { ...realParts, limits })
await persistence.setup({ id: 'model', counter: 0 })

async function lane(seed, number, start) {
  let at = 0
  for (const move of moves(seed, number)) {
    if (at++ < start) continue
    await call(persistence, move)
    say(`${number} ${move.method}\n`)
  }
}

if (what === 'run') {
  const [seed, ...starts] = rest.map(Number)
  say('open\n')
  await Promise.all(starts.map((start, number) => lane(seed, number, start)))
} else {
  const dumps = []
  for (let number = 0; number < Number(rest[0]); number++)
    dumps.push(await dump(persistence, number))
  say(JSON.stringify(dumps))
  await persistence.close()
}
