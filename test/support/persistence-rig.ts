/** A persistence on a simulated disk. */
import { systemClock } from '../../src/lib/clock.ts'
import { type JournalLimits, type JournalLog, realTimers } from '../../src/journal/options.ts'
import { JournalPersistence } from '../../src/persistence/persistence.ts'
import type { PersistedPacket } from '../../src/persistence/packet.ts'
import { seededRandom } from './random.ts'
import { SimulatedDisk } from './simulated-disk.ts'

export const FOLDER = '/data'

/** Small, so that segments are emptied and checkpoints written within one test. */
export const SMALL_LIMITS: Partial<JournalLimits> = {
  segmentBytes: 256 * 1024,
  checkpointBytes: 512 * 1024,
  deadBytesMax: 256 * 1024
}

export interface Rigged {
  readonly disk: SimulatedDisk
  readonly persistence: JournalPersistence
  readonly broker: { id: string; counter: number }
  readonly logged: string[]
}

export interface RigOptions {
  readonly disk?: SimulatedDisk
  readonly seed?: number
  readonly brokerId?: string
  readonly limits?: Partial<JournalLimits>
  readonly hotEntriesMax?: number
}

/** Makes one; `setup` is the caller's. */
export function makePersistence(options: RigOptions = {}): Rigged {
  const { seed = 1, limits = SMALL_LIMITS } = options
  const disk = options.disk ?? new SimulatedDisk({ seed })
  const random = seededRandom(seed)
  const logged: string[] = []
  const log: JournalLog = (level, message) => {
    logged.push(`${level}: ${message}`)
  }
  const hot = options.hotEntriesMax === undefined ? {} : { hotEntriesMax: options.hotEntriesMax }
  const persistence = new JournalPersistence(
    { folder: FOLDER, log, ...hot },
    {
      disk,
      clock: systemClock,
      timers: realTimers,
      random: bytes => Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256))),
      limits
    }
  )
  return { disk, persistence, broker: { id: options.brokerId ?? 'b1', counter: 0 }, logged }
}

export async function openPersistence(options: RigOptions = {}): Promise<Rigged> {
  const rigged = makePersistence(options)
  await rigged.persistence.setup(rigged.broker)
  return rigged
}

let counter = 0

export function publish(topic: string, payload: string, qos = 1): PersistedPacket {
  return {
    cmd: 'publish',
    topic,
    payload: Buffer.from(payload),
    qos,
    retain: false,
    dup: false,
    brokerId: 'b1',
    brokerCounter: ++counter
  }
}

/** The payloads that wait for a client, in order; a PUBREL as its packet identifier. */
export async function waiting(persistence: JournalPersistence, id: string): Promise<string[]> {
  const packets = (await persistence.outgoingStream({ id }).toArray()) as PersistedPacket[]
  return packets.map(({ cmd, payload, messageId }) =>
    cmd === 'pubrel' ? `pubrel ${messageId}` : String(payload)
  )
}

/** Many turns of the event loop: more than a call without the disk needs. */
export async function turns(count = 50): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise<void>(resolve => setImmediate(resolve))
}
