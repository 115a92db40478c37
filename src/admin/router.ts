/** The few parts of HTTP that every resource needs: routes, JSON in and out, errors as status codes. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { BrokerError, type ErrorName } from '../core/errors.ts'

const BODY_BYTES_MAX = 64 * 1024

export interface AdminRequest {
  readonly method: string
  /** The path without its query, decoded in parts: `/api/users/a%2Fb` → `['api', 'users', 'a/b']`. */
  readonly parts: readonly string[]
  /** The body as JSON, of at most 64 KiB unless told otherwise; undefined when there is none. @throws HttpError 400, 413 */
  readJson(bytesMax?: number): Promise<unknown>
}

export interface AdminResponse {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

/** A refusal with its status code; the message goes to the peer. */
export class HttpError extends Error {
  readonly status: number
  readonly allow: string

  constructor(status: number, message: string, allow = '') {
    super(message)
    this.name = 'HttpError'
    this.status = status
    this.allow = allow
  }
}

export type RouteHandler = (request: AdminRequest) => AdminResponse | Promise<AdminResponse>

/** A path's methods. A path part that begins with `:` takes any value. */
export interface Route {
  readonly path: string
  readonly methods: Readonly<Record<string, RouteHandler>>
}

export function json(value: unknown, status = 200): AdminResponse {
  return {
    status,
    contentType: 'application/json; charset=utf-8',
    body: status === 204 ? '' : `${JSON.stringify(value)}\n`
  }
}

const STATUS_OF: Partial<Record<ErrorName, number>> = {
  notAuthorized: 403,
  notAllowed: 403,
  notFound: 404,
  preconditionFailed: 409,
  argumentInvalid: 400,
  tooLarge: 413,
  quotaExceeded: 429,
  diskAlarm: 503,
  journalFailed: 503,
  shuttingDown: 503,
  notImplemented: 501
}

/** What the peer is told of an error; null for a bug of ours, which it is not told. */
export function responseOfError(error: unknown): AdminResponse | null {
  if (error instanceof HttpError) return json({ error: error.message }, error.status)
  if (!(error instanceof BrokerError)) return null
  return json({ error: error.message, code: error.code }, STATUS_OF[error.code] ?? 400)
}

/** Finds the handler. @throws HttpError 404, 405 */
export function findRoute(
  routes: readonly Route[],
  method: string,
  parts: readonly string[]
): RouteHandler {
  for (const route of routes) {
    const wanted = route.path.split('/').slice(1)
    const isSame =
      wanted.length === parts.length &&
      wanted.every((part, i) => part.startsWith(':') || part === parts[i])
    if (!isSame) continue
    const asked = method === 'HEAD' ? 'GET' : method
    if (Object.hasOwn(route.methods, asked)) return route.methods[asked]!
    const allow = Object.keys(route.methods)
    if (allow.includes('GET')) allow.push('HEAD')
    throw new HttpError(405, `${route.path} takes ${allow.join(', ')}`, allow.join(', '))
  }
  throw new HttpError(404, 'there is nothing here')
}

/** @throws HttpError 400 for an escape that is none */
export function splitPath(url: string): string[] {
  const path = url.split(/[?#]/, 1)[0]!
  if (!path.startsWith('/')) throw new HttpError(400, 'the request is no path')
  try {
    return path.slice(1).split('/').map(decodeURIComponent)
  } catch (error) {
    if (!(error instanceof URIError)) throw error
    throw new HttpError(400, 'the path has an escape that is none')
  }
}

export async function readJsonBody(
  request: IncomingMessage,
  bytesMax = BODY_BYTES_MAX
): Promise<unknown> {
  const declared = Number(request.headers['content-length'] ?? 0)
  if (declared > bytesMax) throw tooLarge(bytesMax)
  const body = await readBody(request, bytesMax)
  if (body.length === 0) return undefined
  try {
    return JSON.parse(body.toString('utf8')) as unknown
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new HttpError(400, 'the body is no JSON')
  }
}

/** Not with `for await`: leaving it early destroys the socket, and with it the answer. */
function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      // The rest is read and thrown away until the connection is closed.
      if (bytes > bytesMax) reject(tooLarge(bytesMax))
      else chunks.push(chunk)
    })
    request.on('end', () => resolve(Buffer.concat(chunks)))
    request.on('error', reject)
    request.on('close', () => reject(new HttpError(400, 'the body did not come to its end')))
  })
}

function tooLarge(bytesMax: number): HttpError {
  return new HttpError(413, `the body is larger than ${bytesMax} bytes`)
}

/** Sends an answer; after one whose request was not read to its end the connection is closed. */
export function send(
  response: ServerResponse,
  answer: AdminResponse,
  allow: string,
  isReadToEnd: boolean
): void {
  response.statusCode = answer.status
  if (answer.status !== 204) response.setHeader('Content-Type', answer.contentType)
  response.setHeader('Cache-Control', 'no-store')
  response.setHeader('X-Content-Type-Options', 'nosniff')
  response.setHeader('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'")
  if (allow !== '') response.setHeader('Allow', allow)
  if (!isReadToEnd) response.setHeader('Connection', 'close')
  response.setHeader('Content-Length', Buffer.byteLength(answer.body))
  response.end(answer.body)
}
