/** `/api/drain` on the admin socket: what `motemq drain` asks of a running broker. */
import { type AdminRequest, HttpError, json, type Route } from './router.ts'

export interface DrainAdmin {
  /** Sends MQTT clients away; `reference` '' is the one of the configuration. */
  drain(reference: string, isMoved: boolean): void
  stopDraining(): void
  drainStatus(): DrainStatus
}

export interface DrainStatus {
  readonly draining: boolean
  readonly reference: string
  readonly moved: boolean
  /** MQTT connections that are still open. */
  readonly connections: number
}

const REFERENCE_BYTES_MAX = 1_024

export function drainRoutes(admin: DrainAdmin): Route[] {
  return [
    {
      path: '/api/drain',
      methods: {
        GET: () => json(admin.drainStatus()),
        PUT: async request => {
          const { to, moved } = await readOrder(request)
          admin.drain(to, moved)
          return json(admin.drainStatus())
        },
        DELETE: () => {
          admin.stopDraining()
          return json(admin.drainStatus())
        }
      }
    }
  ]
}

async function readOrder(request: AdminRequest): Promise<{ to: string; moved: boolean }> {
  const body = (await request.readJson()) ?? {}
  if (typeof body !== 'object' || Array.isArray(body)) {
    throw new HttpError(400, 'the body is no JSON object')
  }
  const order = { to: '', moved: false }
  for (const [key, value] of Object.entries(body)) {
    if (key === 'to' && typeof value === 'string') order.to = value
    else if (key === 'moved' && typeof value === 'boolean') order.moved = value
    else throw new HttpError(400, `${JSON.stringify(key)} is not known here, or not of its type`)
  }
  if (Buffer.byteLength(order.to) > REFERENCE_BYTES_MAX || order.to.includes('\0')) {
    throw new HttpError(400, `to is longer than ${REFERENCE_BYTES_MAX} bytes, or no text`)
  }
  return order
}
