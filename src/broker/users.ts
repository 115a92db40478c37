/** Users: kept in the journal. Who asks, may. */
import type { User } from '../core/principal.ts'
import { KIND } from '../core/records/kinds.ts'
import { writeUser, writeUserDelete } from '../core/records/user.ts'
import { AWAITED } from '../journal/journal.ts'
import { append } from './append.ts'
import type { Broker } from './broker.ts'

/** Adds or replaces a user. Returns the ticket that the answer waits for. */
export function setUser(broker: Broker, user: User): number {
  broker.state.users.set(user.name, user)
  writeUser(broker.writer, user)
  const ticket = append(broker, KIND.user, AWAITED)
  permissionsChanged(broker)
  return ticket
}

/** Returns the ticket; 0 when there was no such user. */
export function deleteUser(broker: Broker, name: string): number {
  if (!broker.state.users.delete(name)) return 0
  writeUserDelete(broker.writer, name)
  const ticket = append(broker, KIND.userDelete, AWAITED)
  permissionsChanged(broker)
  return ticket
}

/** What may be read stands in the routes: they are made anew. */
export function permissionsChanged(broker: Broker): void {
  for (const vhost of broker.state.vhosts.values()) vhost.forgetRoutes()
}
