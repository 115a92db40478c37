/** `/api/users` on the admin socket: what `motemq users` asks of a running broker. */
import type { UserAdmin } from '../auth/users.ts'
import { type AdminRequest, HttpError, json, type Route } from './router.ts'

export function userRoutes(users: UserAdmin): Route[] {
  return [
    {
      path: '/api/users',
      methods: {
        GET: async () => json(await users.list()),
        POST: async request => {
          const { name, password, tags } = await readUser(request, ['name', 'password', 'tags'])
          if (name === null) throw new HttpError(400, 'name is missing')
          if (password === null) throw new HttpError(400, 'password is missing')
          await users.add(name, password, tags)
          return json({ name }, 201)
        }
      }
    },
    {
      path: '/api/users/:name',
      methods: {
        PUT: async request => {
          const { password } = await readUser(request, ['password'])
          if (password === null) throw new HttpError(400, 'password is missing')
          await users.setPassword(request.parts[2]!, password)
          return json({ name: request.parts[2] })
        },
        DELETE: async request => {
          await users.remove(request.parts[2]!)
          return json(null, 204)
        }
      }
    }
  ]
}

interface UserBody {
  name: string | null
  /** base64 on the wire: a password is bytes. */
  password: Uint8Array | null
  tags: readonly string[]
}

async function readUser(request: AdminRequest, known: readonly string[]): Promise<UserBody> {
  const body = await request.readJson()
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new HttpError(400, 'the body is no JSON object')
  }
  const user: UserBody = { name: null, password: null, tags: [] }
  for (const [key, value] of Object.entries(body)) {
    if (!known.includes(key)) throw new HttpError(400, `${JSON.stringify(key)} is not known here`)
    if (key === 'tags') user.tags = readTags(value)
    else if (typeof value !== 'string') throw new HttpError(400, `${key} is no text`)
    else if (key === 'name') user.name = value
    else user.password = readBase64(value)
  }
  return user
}

function readTags(value: unknown): string[] {
  if (Array.isArray(value) && value.every(tag => typeof tag === 'string')) return value
  throw new HttpError(400, 'tags is no list of texts')
}

function readBase64(value: string): Uint8Array {
  const bytes = Buffer.from(value, 'base64')
  if (bytes.toString('base64') !== value) throw new HttpError(400, 'password is no base64')
  return bytes
}
