/** `/api/permissions` and `/api/topic-permissions` on the admin socket: what `motemq permission` asks. */
import type { StoredUsers } from '../auth/users.ts'
import { readObject } from './json-body.ts'
import { type AdminRequest, HttpError, json, type Route } from './router.ts'

export function permissionRoutes(users: StoredUsers): Route[] {
  return [
    { path: '/api/permissions', methods: { GET: () => json(users.permissions()) } },
    {
      path: '/api/permissions/:vhost/:user',
      methods: {
        PUT: async request => {
          const { configure, write, read } = await readTexts(request, [
            'configure',
            'write',
            'read'
          ])
          const [, , vhost, user] = request.parts as [string, string, string, string]
          await users.setPermission(user, {
            vhost,
            configure: needed(configure, 'configure'),
            write: needed(write, 'write'),
            read: needed(read, 'read')
          })
          return json({ vhost, user })
        },
        DELETE: async request => {
          await users.clearPermission(request.parts[3]!, request.parts[2]!)
          return json(null, 204)
        }
      }
    },
    { path: '/api/topic-permissions', methods: { GET: () => json(users.topicPermissions()) } },
    {
      path: '/api/topic-permissions/:vhost/:user',
      methods: {
        PUT: async request => {
          const { exchange, write, read } = await readTexts(request, ['exchange', 'write', 'read'])
          const [, , vhost, user] = request.parts as [string, string, string, string]
          await users.setTopicPermission(user, {
            vhost,
            exchange: needed(exchange, 'exchange'),
            write: needed(write, 'write'),
            read: needed(read, 'read')
          })
          return json({ vhost, user })
        },
        DELETE: async request => {
          const { exchange } = await readTexts(request, ['exchange'])
          await users.clearTopicPermission(request.parts[3]!, request.parts[2]!, exchange ?? null)
          return json(null, 204)
        }
      }
    }
  ]
}

async function readTexts<const K extends string>(
  request: AdminRequest,
  known: readonly K[]
): Promise<Partial<Record<K, string>>> {
  const body = await readObject(request, known)
  const wrong = Object.keys(body).find(key => typeof body[key] !== 'string')
  if (wrong !== undefined) throw new HttpError(400, `${wrong} is no text`)
  return body as Partial<Record<K, string>>
}

function needed(value: string | undefined, name: string): string {
  if (value === undefined) throw new HttpError(400, `${name} is missing`)
  return value
}
