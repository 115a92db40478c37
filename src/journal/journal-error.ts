/** Why a journal could not be opened or can not go on. One sentence, a code, the data as fields. */
export type JournalErrorCode =
  | 'locked'
  | 'foreign-folder'
  | 'newer-format'
  | 'damaged-identity'
  | 'not-writable'
  | 'failed'
  | 'closed'

export class JournalError extends Error {
  readonly code: JournalErrorCode
  readonly fields: Readonly<Record<string, unknown>>

  constructor(
    code: JournalErrorCode,
    sentence: string,
    fields: Readonly<Record<string, unknown>> = {},
    cause?: unknown
  ) {
    super(sentence, cause === undefined ? undefined : { cause })
    this.name = 'JournalError'
    this.code = code
    this.fields = fields
  }
}

/** The code of a failed system call ('ENOSPC', 'EIO', ...), or '' if the error has none. */
export function systemCode(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('code' in error)) return ''
  const { code } = error
  return typeof code === 'string' && !code.startsWith('ERR_') ? code : '' // ERR_: Node's own, a bug
}

/** No room on the device, or in the user's quota: the disk alarm, not a failure of the disk. */
export function isNoSpace(error: unknown): boolean {
  const code = systemCode(error)
  return code === 'ENOSPC' || code === 'EDQUOT'
}

/** The world failed (a system call, or what we made of one), as against a bug of ours. */
export function isWorldError(error: unknown): boolean {
  return error instanceof JournalError || systemCode(error) !== ''
}
