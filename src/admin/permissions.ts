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
          const rule = await readRule(request, ['configure', 'write', 'read'])
          const { vhost, user } = whose(request)
          await users.setPermission(user, { vhost, ...rule })
          return json({ vhost, user })
        },
        DELETE: async request => {
          const { vhost, user } = whose(request)
          await users.clearPermission(user, vhost)
          return json(null, 204)
        }
      }
    },
    { path: '/api/topic-permissions', methods: { GET: () => json(users.topicPermissions()) } },
    {
      path: '/api/topic-permissions/:vhost/:user',
      methods: {
        PUT: async request => {
          const rule = await readRule(request, ['exchange', 'write', 'read'])
          const { vhost, user } = whose(request)
          await users.setTopicPermission(user, { vhost, ...rule })
          return json({ vhost, user })
        },
        DELETE: async request => {
          const { exchange } = await readTexts(request, ['exchange'])
          const { vhost, user } = whose(request)
          await users.clearTopicPermission(user, vhost, exchange ?? null)
          return json(null, 204)
        }
      }
    }
  ]
}

function whose(request: AdminRequest): { vhost: string; user: string } {
  const [, , vhost, user] = request.parts as [string, string, string, string]
  return { vhost, user }
}

/** A rule is whole: each of its texts is there. */
async function readRule<const K extends string>(
  request: AdminRequest,
  names: readonly K[]
): Promise<Record<K, string>> {
  const texts = await readTexts(request, names)
  const missing = names.find(name => texts[name] === undefined)
  if (missing !== undefined) throw new HttpError(400, `${missing} is missing`)
  return texts as Record<K, string>
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
