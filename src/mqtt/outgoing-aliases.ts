/**
 * The topic aliases that we use towards one client whose Topic Alias Maximum is not 0 (MQTT 5
 * §3.1.2.11.5, §3.3.2.3.4). While aliases are free every topic gets one with its first PUBLISH: three
 * bytes more once, the topic's length less each time after. When none is free, only a topic that comes
 * again takes one over, from a topic that was not sent since the hand last passed it: topics that come
 * once would else drive out those that repeat.
 *
 * `choose` changes nothing that the client can see; `keep` is called when the PUBLISH that sets the alias
 * up is written.
 */
const ALIAS_BYTES = 3
const TOPIC_CHARS_MAX = 1_024

export class OutgoingAliases {
  private readonly max: number
  private readonly charsMax: number
  private readonly aliases: Map<string, number>
  /** By alias; that of 0 is never used. */
  private readonly topics: string[]
  /** By alias: 1 when it was sent since the hand passed it. */
  private readonly isUsed: number[]
  /** Topics that came once while no alias was free. */
  private readonly once: Set<string>
  private chars: number
  private hand: number

  /** `max`: the smaller of the client's maximum and ours; `charsMax`: of all topics together. */
  constructor(max: number, charsMax: number) {
    this.max = max
    this.charsMax = charsMax
    this.aliases = new Map()
    this.topics = ['']
    this.isUsed = [0]
    this.once = new Set()
    this.chars = 0
    this.hand = 0
  }

  /** The alias that the client knows for `topic`; negated: one to set up for it; 0: none. */
  choose(topic: string): number {
    const known = this.aliases.get(topic)
    if (known !== undefined) {
      this.isUsed[known] = 1
      return known
    }
    const { length } = topic
    if (length <= ALIAS_BYTES || length > TOPIC_CHARS_MAX) return 0
    if (this.topics.length <= this.max && this.chars + length <= this.charsMax) {
      return -this.topics.length
    }
    if (!this.once.has(topic)) {
      if (this.once.size >= this.max) this.once.clear()
      this.once.add(topic)
      return 0
    }
    const victim = this.victim()
    if (victim === 0) return 0
    return this.chars - this.topics[victim]!.length + length > this.charsMax ? 0 : -victim
  }

  /** A PUBLISH that sets `alias` up for `topic` is written. */
  keep(alias: number, topic: string): void {
    if (alias < this.topics.length) {
      const old = this.topics[alias]!
      this.aliases.delete(old)
      this.chars -= old.length
    }
    this.topics[alias] = topic
    this.isUsed[alias] = 0
    this.aliases.set(topic, alias)
    this.chars += topic.length
    this.once.delete(topic)
  }

  /** The next alias that was not sent for a whole round of the hand; 0: there are none. */
  private victim(): number {
    const count = this.topics.length - 1
    if (count === 0) return 0
    for (let left = 2 * count; left > 0; left--) {
      this.hand = (this.hand % count) + 1
      if (this.isUsed[this.hand] === 0) break
      this.isUsed[this.hand] = 0
    }
    return this.hand
  }
}
