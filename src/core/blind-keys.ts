/**
 * The BCC keys of an AMQP message: it goes there, too, and nobody is told. They are no part of the message, but a dead
 * letter goes to its own keys again, these included (as with RabbitMQ). So a queue that gives its dead letters no
 * other key keeps them beside its place in the message's record, where a session's has its subscription
 * identifiers: a number for each character. Who publishes without BCC pays nothing.
 */

/** Behind each key: no character. */
const END = 0x10000
/** As many numbers as a place has room for: what is beyond them is not kept for a dead letter. */
const NUMBERS_MAX = 255

/** By the keys that a message is routed under beside its own. */
const blindOf = new WeakMap<readonly string[], readonly number[]>()

/** Of these further keys, those in `blind` are BCC ones. */
export function noteBlindKeys(moreKeys: readonly string[], blind: readonly string[]): void {
  const numbers: number[] = []
  for (const key of blind) {
    if (numbers.length + key.length + 1 > NUMBERS_MAX) continue
    for (let i = 0; i < key.length; i++) numbers.push(key.charCodeAt(i))
    numbers.push(END)
  }
  if (numbers.length > 0) blindOf.set(moreKeys, numbers)
}

/** As they are kept; null: there are none. */
export function blindNumbersOf(moreKeys: readonly string[] | null): readonly number[] | null {
  return moreKeys === null ? null : (blindOf.get(moreKeys) ?? null)
}

/** The keys again. */
export function blindKeysIn(numbers: readonly number[]): string[] {
  const keys: string[] = []
  let key = ''
  for (const number of numbers) {
    if (number === END) {
      keys.push(key)
      key = ''
    } else key += String.fromCharCode(number)
  }
  return keys
}
