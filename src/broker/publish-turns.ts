/**
 * How much publishing may bring about in one turn of the loop. What a publisher sends is read 64 KiB at a time: hundreds
 * of small messages, each of which may go to thousands of subscribers; all of it at once would keep everybody else
 * waiting for a second. So when the messages of a turn have made their deliveries, the publishers that still have some
 * wait, unread, and go on in the next turn, one after the other.
 *
 * Deliveries are counted, not time: asking for the time costs a tenth of a message.
 */

/** Deliveries of a turn: a few milliseconds. */
const DELIVERIES_A_TURN = 4_096

export interface LatePublisher {
  /** It may go on; also when it is closed meanwhile. */
  onTurn(): void
}

export class PublishTurns {
  /** Sessions and queues that the messages of this turn went to. */
  deliveries: number
  private readonly late: LatePublisher[]
  private isScheduled: boolean

  constructor() {
    this.deliveries = 0
    this.late = []
    this.isScheduled = false
  }

  /** What was delivered leaves: a turn ends. */
  end(): void {
    this.deliveries = 0
  }

  /** False: it was enough for this turn, and the publisher is told when it may go on. Until then it is not read. */
  mayGoOn(publisher: LatePublisher): boolean {
    if (this.deliveries < DELIVERIES_A_TURN) return true
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
    this.deliveries = 0
    // Who is late again stands behind those whose turn did not come.
    const { late } = this
    const count = late.length
    let done = 0
    while (done < count && this.deliveries < DELIVERIES_A_TURN) late[done++]!.onTurn()
    late.splice(0, done)
    if (late.length > 0) this.schedule()
  }
}

function goOn(turns: PublishTurns): void {
  turns.goOn()
}
