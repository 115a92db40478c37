/** JSON bodies of requests, field by field. */
import { type AdminRequest, HttpError } from './router.ts'

export type JsonObject = Readonly<Record<string, unknown>>

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string')
}

/** The body; an empty one is `{}`. @throws HttpError 400 for what is no object or has other keys */
export async function readObject(
  request: AdminRequest,
  known: readonly string[]
): Promise<JsonObject> {
  const body = (await request.readJson()) ?? {}
  if (!isObject(body)) throw new HttpError(400, 'the body is no JSON object')
  const stray = Object.keys(body).find(key => !known.includes(key))
  if (stray === undefined) return body
  throw new HttpError(400, `${JSON.stringify(stray)} is not known here`)
}
