/** What commands ask about all that is kept, of a running broker or of a stopped one. */
import type { StoredUsers } from '../auth/users.ts'
import { permissionRoutes } from './permissions.ts'
import type { Route } from './router.ts'
import { userRoutes } from './users.ts'
import { type VhostAdmin, vhostRoutes } from './vhosts.ts'

export interface KeptThings {
  readonly users: StoredUsers
  readonly vhosts: VhostAdmin
}

export function storeRoutes({ users, vhosts }: KeptThings): Route[] {
  return [...userRoutes(users), ...permissionRoutes(users), ...vhostRoutes(vhosts)]
}
