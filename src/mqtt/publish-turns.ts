/**
 * How much publishing may bring about in one turn of the loop. What a publisher sends is read 64 KiB at a time: hundreds
 * of small messages, each of which may go to thousands of subscribers; all of it at once would keep everybody else
 * waiting for a second. So when the messages of a turn have made their deliveries, the publishers that still have some
 * wait, unread, and go on in the next turn, one after the other.
 *
 * Deliveries are counted, not time: asking for the time costs a tenth of a message.
 */
import type { Broker } from '../broker/broker.ts'
import type { Sockets } from '../net/socket.ts'

/** Deliveries of a turn: a few milliseconds. */
const DELIVERIES_A_TURN = 4_096

/** Why it is not read: beside the reasons of connection.ts. */
const PAUSED_TURN = 8

export interface LatePublisher {
  readonly isClosed: boolean
  pause(why: number): void
  resume(why: number): void
  /** Handles what was read and not yet handled. */
  resumeSplitting(): void
}

export class PublishTurns {
  private readonly broker: Broker
  private readonly late: LatePublisher[]
  private isScheduled: boolean

  constructor(broker: Broker, sockets: Sockets) {
    this.broker = broker
    this.late = []
    this.isScheduled = false
    // What was delivered leaves with the end of a turn.
    sockets.dirty.beforeFlush = () => {
      broker.deliveriesDue = 0
    }
  }

  /** False: it was enough for this turn. The publisher is told when it may publish again. */
  mayGoOn(publisher: LatePublisher): boolean {
    if (this.broker.deliveriesDue < DELIVERIES_A_TURN) return true
    if (publisher.isClosed) return true
    publisher.pause(PAUSED_TURN)
    this.late.push(publisher)
    this.schedule()
    return false
  }

  private schedule(): void {
    if (this.isScheduled) return
    this.isScheduled = true
    setImmediate(goOn, this)
  }

  goOn(): void {
    this.isScheduled = false
    this.broker.deliveriesDue = 0
    // Who is late again stands behind those whose turn did not come.
    const { broker, late } = this
    const count = late.length
    let done = 0
    while (done < count && broker.deliveriesDue < DELIVERIES_A_TURN) {
      const publisher = late[done++]!
      if (publisher.isClosed) continue
      publisher.resume(PAUSED_TURN)
      publisher.resumeSplitting()
    }
    late.splice(0, done)
    if (late.length > 0) this.schedule()
  }
}

function goOn(turns: PublishTurns): void {
  turns.goOn()
}
