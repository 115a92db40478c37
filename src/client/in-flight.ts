/**
 * What a client has sent and the server has not acknowledged, in the order of sending, under its packet
 * identifiers (MQTT 5 §4.3, §4.4). Bounded by the window of the client.
 */
import { PUBLISH } from '../mqtt/codec/packet-types.ts'

const DUP = 0x08
const IDS = 65_535

/** A PUBLISH that waits for its PUBACK, PUBREC or PUBCOMP. */
export class Unacked {
  readonly packetId: number
  readonly qos: number
  /** The caller's own number for it. */
  readonly token: number
  /** The whole packet; empty from the PUBREC on: then its PUBREL is what is sent again. */
  packet: Buffer
  isReleased: boolean

  constructor(packetId: number, qos: number, token: number, packet: Buffer) {
    this.packetId = packetId
    this.qos = qos
    this.token = token
    this.packet = packet
    this.isReleased = false
  }

  /** Sets or clears the DUP flag of the packet that will be sent again [MQTT-3.3.1-1]. */
  markRepeated(isRepeated: boolean): void {
    const first = this.packet[0]!
    if (first >> 4 === PUBLISH) this.packet[0] = isRepeated ? first | DUP : first & ~DUP
  }
}

export class InFlight {
  private readonly byId: Map<number, Unacked>
  /** Identifiers of SUBSCRIBE and UNSUBSCRIBE in use. */
  private readonly others: Set<number>
  /** After a reconnection: what is to be sent again, the next one last. */
  private readonly unsent: Unacked[]
  private lastId: number

  constructor() {
    this.byId = new Map()
    this.others = new Set()
    this.unsent = []
    this.lastId = 0
  }

  get count(): number {
    return this.byId.size
  }

  get(packetId: number): Unacked | undefined {
    return this.byId.get(packetId)
  }

  add(unacked: Unacked): void {
    this.byId.set(unacked.packetId, unacked)
  }

  remove(packetId: number): void {
    this.byId.delete(packetId)
  }

  /**
   * A new connection: everything is to be sent again, in the old order [MQTT-4.4.0-1]. `released` are the
   * QoS 2 ones whose PUBREC came. Without a session the rest are new messages to the server, and what it
   * had taken there is done: those are forgotten.
   */
  restart(hasSession: boolean): Unacked[] {
    const released: Unacked[] = []
    this.unsent.length = 0
    for (const unacked of this.byId.values()) {
      if (unacked.isReleased) released.push(unacked)
      else {
        unacked.markRepeated(hasSession)
        this.unsent.push(unacked)
      }
    }
    this.unsent.reverse()
    if (!hasSession) for (const unacked of released) this.byId.delete(unacked.packetId)
    return released
  }

  /** The next one that is to be sent again, if `window` has room for it: it may be smaller than it was. */
  nextUnsent(window: number): Unacked | null {
    if (this.unsent.length === 0 || this.byId.size - this.unsent.length >= window) return null
    return this.unsent.pop() ?? null
  }

  /** An identifier that nothing uses. The windows are far smaller than the number of identifiers. */
  freeId(): number {
    do {
      this.lastId = this.lastId === IDS ? 1 : this.lastId + 1
    } while (this.byId.has(this.lastId) || this.others.has(this.lastId))
    return this.lastId
  }

  reserve(packetId: number): void {
    this.others.add(packetId)
  }

  release(packetId: number): void {
    this.others.delete(packetId)
  }
}
