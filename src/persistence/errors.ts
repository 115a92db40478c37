/** What a persistence refuses or cannot do. What keeps it from opening is the journal's own error. */
export type PersistenceErrorCode =
  | 'closed'
  | 'failed'
  | 'disk-full'
  | 'no-such-packet'
  | 'not-storable'

export class PersistenceError extends Error {
  readonly code: PersistenceErrorCode
  readonly fields: Readonly<Record<string, unknown>>

  constructor(
    code: PersistenceErrorCode,
    sentence: string,
    fields: Readonly<Record<string, unknown>> = {},
    cause?: unknown
  ) {
    super(sentence, cause === undefined ? undefined : { cause })
    this.name = 'PersistenceError'
    this.code = code
    this.fields = fields
  }
}
