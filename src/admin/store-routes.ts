/** What commands ask about all that is kept, of a running broker or of a stopped one. */
import type { StoredUsers } from '../auth/users.ts'
import type { Broker } from '../broker/broker.ts'
import { definitionRoutes } from './definitions.ts'
import { permissionRoutes } from './permissions.ts'
import { policyRoutes } from './policies.ts'
import { queueRoutes } from './queues.ts'
import type { Route } from './router.ts'
import { userRoutes } from './users.ts'
import { type VhostAdmin, vhostRoutes } from './vhosts.ts'

export interface KeptThings {
  readonly broker: Broker
  readonly users: StoredUsers
  readonly vhosts: VhostAdmin
  /** Told to who reads an export: some read the format off it. */
  readonly rabbitVersion: string
}

export function storeRoutes({ broker, users, vhosts, rabbitVersion }: KeptThings): Route[] {
  return [
    ...userRoutes(users),
    ...permissionRoutes(users),
    ...vhostRoutes(vhosts),
    ...policyRoutes(broker),
    ...queueRoutes(broker),
    ...definitionRoutes(broker, users, rabbitVersion)
  ]
}
