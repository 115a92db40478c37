/**
 * Thrown when something that cannot be is. In a front-end it costs that connection, in the core the
 * process: it is never caught to go on.
 */
export class AssertionError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'AssertionError'
  }
}

/** Throws an `AssertionError` unless `condition` holds. The message is a constant: it costs nothing. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** Behind a switch over every case: the compiler refuses the call while a case is missing. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`)
}
