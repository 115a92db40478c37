/** Users of a running broker, through its admin socket. */
import type { UserAdmin, UserSummary } from '../auth/users.ts'
import { askBroker } from './ask-broker.ts'
import { CommandError } from './exit.ts'

/** A broker that runs on this data folder; null when none does. */
export async function connectToBroker(data: string): Promise<RemoteUsers | null> {
  const remote = new RemoteUsers(data)
  try {
    await remote.list()
    return remote
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return null
    if (code === 'EACCES' || code === 'EPERM') {
      throw new CommandError(
        `the data folder ${data} belongs to another user: run this as the user that runs the broker (sudo -u USER ...)`
      )
    }
    throw error
  }
}

export class RemoteUsers implements UserAdmin {
  readonly #data: string

  constructor(data: string) {
    this.#data = data
  }

  async list(): Promise<readonly UserSummary[]> {
    return (await this.#ask('GET', '/api/users', null)) as UserSummary[]
  }

  async add(name: string, password: Uint8Array, tags: readonly string[]): Promise<void> {
    await this.#ask('POST', '/api/users', { name, password: base64(password), tags })
  }

  async setPassword(name: string, password: Uint8Array): Promise<void> {
    await this.#ask('PUT', userPath(name), { password: base64(password) })
  }

  async remove(name: string): Promise<void> {
    await this.#ask('DELETE', userPath(name), null)
  }

  async close(): Promise<void> {
    // Each request has a connection of its own.
  }

  #ask(method: string, path: string, body: unknown): Promise<unknown> {
    return askBroker(this.#data, method, path, body)
  }
}

function userPath(name: string): string {
  return `/api/users/${encodeURIComponent(name)}`
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
