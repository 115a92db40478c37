/**
 * The topic aliases that a client has set up on its connection (MQTT 5 §3.3.2.3.4). Made when the first
 * one comes; gone with the connection [MQTT-3.3.2-7]. Bounded in number by the Topic Alias Maximum that
 * we announce, and in the bytes of all topics together.
 */
import type { Limits } from '../../core/limits.ts'
import { ProtocolError, QUOTA_EXCEEDED } from './protocol-error.ts'

export interface AliasedTopic {
  readonly topic: string
  /** The same, as it came. */
  readonly bytes: Buffer
}

export class IncomingAliases {
  private readonly topics: Map<number, AliasedTopic>
  private bytes: number

  constructor() {
    this.topics = new Map()
    this.bytes = 0
  }

  get(alias: number): AliasedTopic | undefined {
    return this.topics.get(alias)
  }

  /** Sets up an alias, or gives it another topic. `source[start..end)` is copied. */
  set(
    alias: number,
    topic: string,
    source: Buffer,
    start: number,
    end: number,
    limits: Limits
  ): void {
    const old = this.topics.get(alias)
    if (old?.topic === topic) return
    this.bytes += end - start - (old?.bytes.length ?? 0)
    if (this.bytes > limits.topicAliasBytesMax) {
      throw new ProtocolError(QUOTA_EXCEEDED, 'topics of all aliases are too long')
    }
    const bytes = Buffer.allocUnsafeSlow(end - start)
    source.copy(bytes, 0, start, end)
    this.topics.set(alias, { topic, bytes })
  }
}
