/**
 * What was handed to Node and not all of it to the kernel: kept while a peer is slow, so that when its socket closes it
 * is known which messages never left. Exact: of the write that the kernel took a part of, the owner says where its
 * messages end.
 */

/** Messages by QoS; of AMQP: settled by being sent, to be acknowledged, none. */
export type Units = [number, number, number]

/** Adds to `units` the messages that end behind the first `bytes` of `chunk`, which begins with one. */
export type CountUnits = (chunk: Buffer, bytes: number, units: Units) => void

interface Write {
  readonly chunk: Buffer
  /** Position of its first byte among all bytes of the socket. */
  readonly start: number
  readonly units: Units
  /** The rest of a message whose beginning is another write. */
  readonly isPart: boolean
}

export class Unsent {
  /** Bytes of the socket that the kernel has. */
  sentBytes = 0
  readonly #writes: Write[] = []

  add(chunk: Buffer, start: number, units: Units, isPart: boolean): void {
    this.#writes.push({ chunk, start, units, isPart })
  }

  /** The handle of the socket, before it goes: bytes that it was given, and those that it still has. */
  noteHandle(handle: { bytesWritten?: number; writeQueueSize?: number }): void {
    if (handle.bytesWritten === undefined) return
    this.sentBytes = handle.bytesWritten - (handle.writeQueueSize ?? 0)
  }

  /** So many bytes reached the kernel. */
  noteBytes(bytes: number): void {
    this.sentBytes = bytes
  }

  /** So many bytes were taken as whole writes. */
  taken(bytes: number): void {
    this.sentBytes = bytes
    const writes = this.#writes
    let count = 0
    while (count < writes.length && endOf(writes[count]!) <= bytes) count++
    if (count > 0) writes.splice(0, count)
  }

  /** Adds what never reached the kernel to `lost`. `partly` null: a write of which it has a part is lost whole. */
  addTo(lost: Units, partly: CountUnits | null): void {
    for (const write of this.#writes) {
      const { chunk, start, units, isPart } = write
      if (endOf(write) <= this.sentBytes) continue
      if (start < this.sentBytes && partly !== null && !isPart) {
        partly(chunk, this.sentBytes - start, lost)
        continue
      }
      for (let qos = 0; qos < 3; qos++) lost[qos]! += units[qos]!
    }
  }
}

function endOf({ chunk, start }: Write): number {
  return start + chunk.length
}
