/** Records that are JSON, of things that are few. A field of another type counts as absent. */
import { BytesError, type BytesReader } from '../../lib/bytes-reader.ts'

/** @throws BytesError */
export function readJson(reader: BytesReader): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(reader.longString())
  } catch (error) {
    if (error instanceof SyntaxError) throw new BytesError('record is no JSON')
    throw error
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw new BytesError('record is no JSON object')
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

export function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(item => typeof item === 'string') : []
}
