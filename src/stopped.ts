/** A stopped broker's store, opened for a command; nobody else has it meanwhile. */
import { findRoute, splitPath } from './admin/router.ts'
import { storeRoutes } from './admin/store-routes.ts'
import { JournalUsers } from './admin/user-store.ts'
import { VhostAdmin } from './admin/vhosts.ts'
import { Hasher } from './auth/password.ts'
import { StoredUsers } from './auth/users.ts'
import type { Options } from './config/options.ts'
import { configuredVhosts } from './config/vhost-names.ts'
import { openStore } from './store.ts'
import { startStreams } from './broker/streams.ts'

export interface StoppedBroker {
  readonly users: StoredUsers
  /** As the admin socket of a running one answers. @throws BrokerError, HttpError */
  ask(method: string, path: string, body: unknown): Promise<unknown>
  close(): Promise<void>
}

/** Locks the data folder. */
export async function openStopped(options: Options): Promise<StoppedBroker> {
  const { pino } = await import('pino')
  const { broker, journal } = await openStore(options, pino({ level: 'silent' }), () => null)
  startStreams(broker)
  const hasher = new Hasher()
  const store = new JournalUsers(broker, options.users, options.topics.length > 0, () => undefined)
  const users = new StoredUsers(store, hasher)
  const vhosts = new VhostAdmin(broker, [], configuredVhosts(options))
  const routes = storeRoutes({ broker, users, vhosts, rabbitVersion: options.amqp.version })
  return {
    users,
    async ask(method, path, body) {
      const parts = splitPath(path)
      const readJson = () => Promise.resolve(body ?? undefined)
      const answer = await findRoute(routes, method, parts)({ method, parts, readJson })
      return answer.body === '' ? null : (JSON.parse(answer.body) as unknown)
    },
    async close() {
      await users.close()
      await hasher.close()
      await broker.streams?.close()
      await journal.close()
    }
  }
}
