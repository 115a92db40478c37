/** One question to a running broker, through the admin socket in its data folder. */
import { request } from 'node:http'
import { join } from 'node:path'
import { BrokerError, ERROR_CODES, type ErrorName } from '../core/errors.ts'
import { shortenUnixPath } from '../net/unix-path.ts'
import { CommandError } from './exit.ts'

const TIMEOUT_MS = 30_000

/** Resolves with the answer's JSON. Rejects with ENOENT or ECONNREFUSED when no broker runs there. */
export function askBroker(
  data: string,
  method: string,
  path: string,
  body: unknown
): Promise<unknown> {
  const short = shortenUnixPath(join(data, 'admin.sock'))
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
