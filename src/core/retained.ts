/** The retained messages of a vhost: one slot a topic (MQTT 5 §3.3.1.3). A slot knows where its message lies. */
import { TopicTree } from './topic-tree.ts'

export class RetainedSlot {
  readonly topic: string
  segment: number
  offset: number
  /** Payload bytes, and the entry's flags (destinations that share the record): see core/queue.ts. */
  readonly bytes: number
  readonly flags: number
  /** Rises with each message that is retained: tells a newer value from an older one. */
  readonly sequence: number
  /** What was promised for it is durable from this ticket on; 0: nothing was promised. */
  ticket: number

  constructor(
    topic: string,
    segment: number,
    offset: number,
    bytes: number,
    flags: number,
    sequence: number
  ) {
    this.topic = topic
    this.segment = segment
    this.offset = offset
    this.bytes = bytes
    this.flags = flags
    this.sequence = sequence
    this.ticket = 0
  }
}

export class Retained {
  readonly tree: TopicTree<RetainedSlot>
  /** Payload and topic bytes of all slots. */
  bytes: number

  constructor() {
    this.tree = new TopicTree()
    this.bytes = 0
  }

  get count(): number {
    return this.tree.size
  }

  get(topic: string): RetainedSlot | null {
    return this.tree.get(topic) ?? null
  }

  /** Returns the slot that was replaced, or null. */
  set(slot: RetainedSlot): RetainedSlot | null {
    const old = this.tree.get(slot.topic) ?? null
    if (old !== null) this.bytes -= old.bytes + old.topic.length
    this.tree.set(slot.topic, slot)
    this.bytes += slot.bytes + slot.topic.length
    return old
  }

  /** Returns the slot that was there, or null. */
  clear(topic: string): RetainedSlot | null {
    const old = this.tree.get(topic) ?? null
    if (old === null) return null
    this.bytes -= old.bytes + old.topic.length
    this.tree.delete(topic)
    return old
  }
}
