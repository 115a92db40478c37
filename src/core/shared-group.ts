/**
 * A shared subscription: `$share/NAME/FILTER`, one queue and the sessions that take from it in turn
 * (MQTT 5 §4.8.2). The name and the filter together are its identity: the same name with another filter is
 * another group.
 *
 * It stands in the topic exchange's trie while it has members. Its queue is a queue like any other, so
 * that whoever can consume a queue can take from it.
 */
import { SHARED_GROUP } from './target-kinds.ts'
import type { Queue } from './queue.ts'
import type { Session, Subscription } from './session.ts'

export class SharedGroup {
  readonly kind = SHARED_GROUP
  /** As in SUBSCRIBE. */
  readonly text: string
  /** The inner filter. */
  readonly filter: string
  readonly vhost: string
  /** Its id is the group's. */
  readonly queue: Queue
  readonly members: Map<Session, Subscription>
  /** AMQP consumers that take from its queue beside the members. None of them outlasts its connection. */
  takers: number

  constructor(text: string, vhost: string, queue: Queue) {
    this.text = text
    this.filter = sharedFilterOf(text)
    this.vhost = vhost
    this.queue = queue
    this.members = new Map()
    this.takers = 0
  }

  get id(): number {
    return this.queue.id
  }

  /** Members and AMQP consumers: it gets messages while there are any. */
  get takerCount(): number {
    return this.members.size + this.takers
  }

  /** Some member's session outlives its connection. */
  get hasLastingMember(): boolean {
    for (const session of this.members.keys()) if (session.isLasting) return true
    return false
  }

  /** Nobody takes from it, and nobody holds anything of it: it is to end. */
  get isSpent(): boolean {
    return this.takerCount === 0 && (this.queue.moves?.size ?? 0) === 0
  }
}

/** The inner filter of a valid `$share/NAME/FILTER`. */
export function sharedFilterOf(text: string): string {
  return text.substring(text.indexOf('/', '$share/'.length) + 1)
}
