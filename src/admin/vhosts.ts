/** `/api/vhosts` on the admin socket: what `motemq vhost` asks. */
import type { Broker } from '../broker/broker.ts'
import { deleteVhost, putVhost, traceVhost } from '../broker/vhosts.ts'
import { BrokerError } from '../core/errors.ts'
import type { Vhost } from '../core/vhost.ts'
import { isTexts, readObject } from './json-body.ts'
import { type AdminRequest, HttpError, json, type Route } from './router.ts'

export interface VhostSummary {
  readonly name: string
  readonly description: string
  readonly tags: readonly string[]
  readonly queues: number
  /** In its queues, those that are delivered and open included. */
  readonly messages: number
  readonly sessions: number
  readonly retained: number
  /** Its messages are traced. */
  readonly tracing: boolean
}

/** What a front-end has to do with it. */
export interface VhostFrontEnd {
  /** Closes the connections to a virtual host that is about to end. */
  closeVhost(name: string): void
}

export class VhostAdmin {
  readonly #broker: Broker
  readonly #frontEnds: readonly VhostFrontEnd[]
  /** The configuration names them, or a listener does: they are made again at each start. */
  #configured: ReadonlySet<string>

  constructor(
    broker: Broker,
    frontEnds: readonly VhostFrontEnd[],
    configured: ReadonlySet<string>
  ) {
    this.#broker = broker
    this.#frontEnds = frontEnds
    this.#configured = configured
  }

  configure(names: ReadonlySet<string>): void {
    this.#configured = names
  }

  list(): VhostSummary[] {
    return [...this.#broker.vhosts.values()].map(summaryOf)
  }

  /** @throws BrokerError argumentInvalid, quotaExceeded */
  async put(name: string, description: string, tags: readonly string[]): Promise<boolean> {
    const { isNew } = putVhost(this.#broker, name, { description, tags })
    await this.#broker.journal.flush()
    return isNew
  }

  /** @throws BrokerError notFound */
  trace(name: string, isOn: boolean): void {
    traceVhost(this.#broker, name, isOn)
  }

  /** @throws BrokerError notFound, notAllowed */
  async remove(name: string): Promise<void> {
    if (this.#configured.has(name) && this.#broker.state.vhost(name) !== null) {
      throw new BrokerError('notAllowed', 'the configuration names this virtual host', { name })
    }
    // Nobody is sent away for a mistyped name.
    if (this.#broker.state.vhost(name) !== null) {
      for (const frontEnd of this.#frontEnds) frontEnd.closeVhost(name)
    }
    deleteVhost(this.#broker, name)
    await this.#broker.journal.flush()
  }
}

function summaryOf(vhost: Vhost): VhostSummary {
  const { name, description, tags, queues, sessions, retained } = vhost
  let messages = 0
  for (const queue of queues.values()) messages += queue.count
  const counts = { queues: queues.size, sessions: sessions.size, retained: retained.count }
  return { name, description, tags, messages, ...counts, tracing: vhost.tracer !== null }
}

export function vhostRoutes(vhosts: VhostAdmin): Route[] {
  return [
    { path: '/api/vhosts', methods: { GET: () => json(vhosts.list()) } },
    {
      path: '/api/vhosts/:name',
      methods: {
        PUT: async request => {
          const { description, tags } = await readNotes(request)
          const isNew = await vhosts.put(request.parts[2]!, description, tags)
          return json({ name: request.parts[2] }, isNew ? 201 : 200)
        },
        DELETE: async request => {
          await vhosts.remove(request.parts[2]!)
          return json(null, 204)
        }
      }
    },
    {
      path: '/api/vhosts/:name/tracing',
      methods: {
        PUT: async request => {
          const { on } = await readObject(request, ['on'])
          if (typeof on !== 'boolean') throw new HttpError(400, 'on is neither true nor false')
          vhosts.trace(request.parts[2]!, on)
          return json({ name: request.parts[2], tracing: on })
        }
      }
    }
  ]
}

async function readNotes(
  request: AdminRequest
): Promise<{ description: string; tags: readonly string[] }> {
  const { description = '', tags = [] } = await readObject(request, ['description', 'tags'])
  if (typeof description !== 'string') throw new HttpError(400, 'description is no text')
  if (!isTexts(tags)) throw new HttpError(400, 'tags is no list of texts')
  return { description, tags }
}
