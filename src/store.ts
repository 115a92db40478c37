/** The data folder, opened: the journal, the files of streams, and the broker that both were replayed into. */
import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import { Broker } from './broker/broker.ts'
import { Owner } from './broker/owner.ts'
import { limitsOf, type Options } from './config/options.ts'
import type { Principal } from './core/principal.ts'
import { realDisk } from './journal/disk.ts'
import type { Journal, Recovery } from './journal/journal.ts'
import { openJournal } from './journal/log.ts'
import type { JournalLog } from './journal/options.ts'
import { openStreamFiles } from './journal/stream-files.ts'
import { systemClock } from './lib/clock.ts'

export interface Store {
  broker: Broker
  journal: Journal
  recovery: Recovery
}

export async function openStore(
  options: Options,
  log: Logger,
  principalOf: (user: string, vhost: string) => Principal | null
): Promise<Store> {
  const broker = new Broker({
    limits: limitsOf(options),
    clock: systemClock,
    log,
    random: randomBytes,
    principalOf
  })
  const journalLog: JournalLog = (level, message, fields) => log[level](fields, message)
  const { journal, recovery } = await openJournal({
    folder: options.data,
    disk: realDisk,
    owner: new Owner(broker),
    clock: systemClock,
    random: randomBytes,
    limits: {
      syncIdleMs: options.syncIdleMs,
      yellowFreeBytes: options.disk.yellowFreeBytes,
      redFreeBytes: options.disk.redFreeBytes
    },
    log: journalLog,
    neighbours: ['admin.sock', 'certs', 'motemq.yaml', 'lost+found', 'streams'],
    attach: opened => broker.attach(opened)
  })
  broker.streamFiles = await openStreamFiles(options.data, realDisk, journalLog, journal)
  return { broker, journal, recovery }
}
