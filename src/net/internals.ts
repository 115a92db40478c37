/** The parts of Node's sockets that have no public name. */

export interface Handle {
  useUserBuffer?: unknown
  writeQueueSize?: number
  bytesWritten?: number
  /** Of TLS: the socket's own. */
  _parent?: Handle
}

export interface Internals {
  _handle: Handle | null
  _server: unknown
  server: unknown
}

/** Bytes that the kernel has of a socket whose owner has written `written`, but for `waiting`. */
export function bytesTaken(handle: Handle | null, written: number, waiting: number): number {
  // TLS takes a write whole, however long the wire takes for it: the socket below it knows.
  const wire = handle?._parent
  if (wire !== undefined) return (wire.bytesWritten ?? 0) - (wire.writeQueueSize ?? 0)
  return written - waiting - (handle?.writeQueueSize ?? 0)
}
