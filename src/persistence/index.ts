/** What a program that runs Aedes imports: `import { createPersistence } from 'motemq/persistence'`. */
import { createRequire } from 'node:module'
import type { PersistenceOptions } from './options.ts'
import { JournalPersistence } from './persistence.ts'

export { JournalError, type JournalErrorCode } from '../journal/journal-error.ts'
export { PersistenceError, type PersistenceErrorCode } from './errors.ts'
export type { PersistenceOptions } from './options.ts'
export type { PersistedClient, PersistedPacket } from './packet.ts'
export {
  JournalPersistence,
  type MatchedSubscription,
  type PersistedSubscription,
  type PersistenceBroker
} from './persistence.ts'

/** A persistence for Aedes 1: hand it to `Aedes.createBroker({ persistence })`; that opens the folder. */
export function createPersistence(options: PersistenceOptions): JournalPersistence {
  return new JournalPersistence(options)
}

/** The part of aedes-persistence that puts callbacks before promises; it has no types. */
interface Callbacks {
  CallBackPersistence: new (factory: () => JournalPersistence) => object
}

/** The same behind the callbacks of Aedes before 1: it becomes ready when its `broker` is set. */
export function createCallbackPersistence(options: PersistenceOptions): object {
  const load = createRequire(import.meta.url)
  const callbacks = load('aedes-persistence/callBackPersistence.js') as Callbacks
  return new callbacks.CallBackPersistence(() => new JournalPersistence(options))
}
