/**
 * What channels hold in memory that is in no queue yet: messages that have not come whole, and open transactions.
 * Each of them is bounded by itself (content.ts, transaction.ts); here those of a connection, and those of all
 * connections, are bounded together, so that many channels do not hold what one may not.
 */
import { AmqpError, REPLY } from './reply-codes.ts'

export class ChannelRoom {
  /** What of `bytesMax` is taken. */
  bytes: number
  readonly #bytesMax: number
  /** Of all connections; null: this is it. */
  readonly #whole: ChannelRoom | null

  constructor(bytesMax: number, whole: ChannelRoom | null) {
    this.bytes = 0
    this.#bytesMax = bytesMax
    this.#whole = whole
  }

  /** Throws 406, and takes nothing, when there is not so much left. */
  take(bytes: number): void {
    if (this.bytes + bytes > this.#bytesMax) {
      const whose = this.#whole === null ? 'all connections' : 'one connection'
      throw new AmqpError(
        REPLY.preconditionFailed,
        `the unfinished messages and transactions of ${whose} hold at most ${this.#bytesMax} bytes`
      )
    }
    this.#whole?.take(bytes)
    this.bytes += bytes
  }

  give(bytes: number): void {
    this.bytes -= bytes
    this.#whole?.give(bytes)
  }
}

/** One room for each connection that has channels, half of the whole at most. */
export class ChannelRooms {
  readonly whole: ChannelRoom
  readonly #bytesMax: number
  readonly #rooms: WeakMap<object, ChannelRoom>

  constructor(bytesMax: number) {
    this.whole = new ChannelRoom(bytesMax, null)
    this.#bytesMax = Math.ceil(bytesMax / 2)
    this.#rooms = new WeakMap()
  }

  of(connection: object): ChannelRoom {
    let room = this.#rooms.get(connection)
    if (room === undefined) {
      room = new ChannelRoom(this.#bytesMax, this.whole)
      this.#rooms.set(connection, room)
    }
    return room
  }
}
