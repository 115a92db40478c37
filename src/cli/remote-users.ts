/** Users of a running broker, through its admin socket. */
import { request } from 'node:http'
import { join } from 'node:path'
import type { UserAdmin, UserSummary } from '../auth/users.ts'
import { BrokerError, ERROR_CODES, type ErrorName } from '../core/errors.ts'
import { shortenUnixPath } from '../net/unix-path.ts'
import { CommandError } from './exit.ts'

const TIMEOUT_MS = 30_000

/** A broker that runs on this data folder; null when none does. */
export async function connectToBroker(data: string): Promise<RemoteUsers | null> {
  const remote = new RemoteUsers(join(data, 'admin.sock'))
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
  readonly #path: string

  constructor(path: string) {
    this.#path = path
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
    const short = shortenUnixPath(this.#path)
    const text = body === null ? '' : JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const asked = request({
        socketPath: short.path,
        method,
        path,
        agent: false,
        timeout: TIMEOUT_MS,
        headers: {
          Host: 'localhost',
          'Content-Type': 'application/json',
          'Content-Length': Buffer.byteLength(text)
        }
      })
      asked.on('timeout', () => {
        asked.destroy(new CommandError('the broker does not answer on its admin socket'))
      })
      asked.on('error', reject)
      asked.on('response', response => {
        const chunks: Buffer[] = []
        response.on('data', chunk => chunks.push(chunk as Buffer))
        response.on('error', reject)
        response.on('end', () => {
          const answer = Buffer.concat(chunks).toString('utf8')
          try {
            resolve(readAnswer(response.statusCode ?? 0, answer))
          } catch (error) {
            reject(error)
          }
        })
      })
      asked.end(text)
    }).finally(short.release)
  }
}

function readAnswer(status: number, text: string): unknown {
  const answer: unknown = text === '' ? null : JSON.parse(text)
  if (status < 300) return answer
  const { error, code } = (answer ?? {}) as { error?: string; code?: string }
  const message = error ?? `the broker answered ${status}`
  if (code !== undefined && Object.hasOwn(ERROR_CODES, code)) {
    throw new BrokerError(code as ErrorName, message)
  }
  throw new CommandError(message)
}

function userPath(name: string): string {
  return `/api/users/${encodeURIComponent(name)}`
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
