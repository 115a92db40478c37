/** `/api/definitions` on the admin socket, as RabbitMQ has it: what `motemq definitions` asks. */
import type { Broker } from '../broker/broker.ts'
import type { StoredUsers } from '../auth/users.ts'
import { exportDefinitions } from './definitions-export.ts'
import { type ImportReport, importDefinitions } from './definitions-import.ts'
import { isObject } from './json-body.ts'
import { type AdminRequest, HttpError, json, type Route } from './router.ts'

const BODY_BYTES_MAX = 256 * 1024 * 1024

export function definitionRoutes(
  broker: Broker,
  users: StoredUsers,
  rabbitVersion: string
): Route[] {
  const take = async (request: AdminRequest, vhost: string | null): Promise<ImportReport> => {
    const body = await request.readJson(BODY_BYTES_MAX)
    if (!isObject(body)) throw new HttpError(400, 'the body is no JSON object')
    return importDefinitions({ broker, users }, body, vhost)
  }
  return [
    {
      path: '/api/definitions',
      methods: {
        GET: () => json(exportDefinitions(broker, users.all(), rabbitVersion)),
        POST: async request => json(await take(request, null))
      }
    },
    {
      path: '/api/definitions/:vhost',
      methods: { POST: async request => json(await take(request, request.parts[2]!)) }
    }
  ]
}
