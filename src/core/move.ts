/**
 * A message of a shared group with one of its members. Numbers only: after a restart one end may be known
 * before the other.
 *
 * A session that lasts, and any session for QoS 2 out of a durable queue, gets the message *moved*: it
 * leaves the group's queue for the session's. A session that ends with its connection is otherwise *lent*
 * it: the group's entry stays, open, until the client has acknowledged or the session ends.
 */
export class Move {
  /** Id of the group, which is its queue's. */
  readonly groupId: number
  /** Where it lay in the group's queue: what names it in the message's record. */
  readonly groupSequence: number
  /** Id of the member's session, which is its queue's. */
  readonly sessionId: number
  /** Where it lies in the session's queue. */
  readonly sequence: number
  /** Flags of the group's entry: QoS, retain and expiry as they were published. */
  readonly flags: number
  /** Subscription Identifier of the member when it was moved; 0 = none. */
  readonly identifier: number
  readonly isLent: boolean

  constructor(
    groupId: number,
    groupSequence: number,
    sessionId: number,
    sequence: number,
    flags: number,
    identifier: number,
    isLent: boolean
  ) {
    this.groupId = groupId
    this.groupSequence = groupSequence
    this.sessionId = sessionId
    this.sequence = sequence
    this.flags = flags
    this.identifier = identifier
    this.isLent = isLent
  }
}
