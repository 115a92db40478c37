/** Publishes what `Readers` judge: in each payload the number of its publisher and its place. */
import { expect } from 'vitest'
import { RawClient } from './raw-client.ts'

export interface AckedPublishOptions {
  readonly port: number
  readonly topic: string
  readonly number: number
  readonly count: number
  readonly bytes: number
  /** Most that wait for their acknowledgement. */
  readonly window: number
}

/** Resolves when all are acknowledged. */
export async function publishAcked(options: AckedPublishOptions): Promise<void> {
  const { port, topic, number, count, bytes, window } = options
  const publisher = new RawClient({ clientId: `publisher${number}`, version: 5, clean: true })
  await publisher.connect(port)
  let acked = 0
  let wake: () => void = () => undefined
  const onSettled = () => {
    acked++
    wake()
  }
  for (let sequence = 0; sequence < count; sequence++) {
    const payload = Buffer.alloc(bytes)
    payload.writeUInt32LE(number)
    payload.writeBigUInt64LE(BigInt(sequence), 8)
    publisher.publish(topic, payload, { qos: 1, onSettled })
    while (acked + window <= sequence) {
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
  }
  await expect.poll(() => acked, { timeout: 30_000 }).toBe(count)
  await publisher.end()
}
