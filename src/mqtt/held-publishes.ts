/**
 * The PUBLISHes of a 3.1 or 3.1.1 client that the disk's alarm does not let in, copied: such a client can
 * neither be refused nor told to wait, so they stand here, in order, until the alarm passes.
 */
export interface HeldPacket {
  readonly first: number
  readonly body: Buffer
}

export class HeldPublishes {
  /** Bytes of all bodies. */
  bytes: number
  private packets: HeldPacket[]

  constructor() {
    this.bytes = 0
    this.packets = []
  }

  get count(): number {
    return this.packets.length
  }

  add(first: number, buffer: Buffer, start: number, end: number): void {
    this.packets.push({ first, body: Buffer.from(buffer.subarray(start, end)) })
    this.bytes += end - start
  }

  /** Hands all out, and holds none any more. */
  take(): readonly HeldPacket[] {
    const taken = this.packets
    this.packets = []
    this.bytes = 0
    return taken
  }
}
