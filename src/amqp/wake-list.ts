/** Consumers that may have credit again: their queues are looked at once, when all frames are read. */
import { credited } from '../broker/deliver.ts'
import type { ChannelConsumer } from './holders.ts'

export class WakeList {
  private readonly consumers: ChannelConsumer[]

  constructor() {
    this.consumers = []
  }

  push(consumer: ChannelConsumer): void {
    if (consumer.isWaking) return
    consumer.isWaking = true
    this.consumers.push(consumer)
  }

  run(): void {
    const consumers = this.consumers
    // Delivering may make others wait and be woken: they come at the end of the same list.
    for (let from = 0; from < consumers.length; ) {
      const to = consumers.length
      for (let i = from; i < to; i++) {
        const consumer = consumers[i]!
        consumer.isWaking = false
        if (consumer.isCancelled) continue
        consumer.isStarved = false
        credited(consumer.queue)
      }
      for (let i = from; i < to; i++) {
        const consumer = consumers[i]!
        if (!consumer.isCancelled) consumer.onCredit()
      }
      from = to
    }
    consumers.length = 0
  }
}
