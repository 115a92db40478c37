import { describe, expect, it } from 'vitest'
import { type LatePublisher, PublishTurns } from '../../src/broker/publish-turns.ts'

/** Publishes messages of so many deliveries until it is told to wait. */
class Publisher implements LatePublisher {
  readonly name: string
  left: number
  readonly #turns: PublishTurns
  readonly #done: string[]
  readonly #deliveries: number

  constructor(turns: PublishTurns, done: string[], name: string, left: number, deliveries: number) {
    this.#turns = turns
    this.#done = done
    this.name = name
    this.left = left
    this.#deliveries = deliveries
  }

  onTurn(): void {
    while (this.left > 0) {
      this.left--
      this.#done.push(this.name)
      this.#turns.deliveries += this.#deliveries
      if (!this.#turns.mayGoOn(this)) return
    }
  }
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))

describe('the turns of publishers', () => {
  it('let small messages through, however many, when turns end between them', () => {
    const turns = new PublishTurns()
    const done: string[] = []
    for (let i = 0; i < 100; i++) {
      new Publisher(turns, done, 'a', 1_000, 1).onTurn()
      turns.end()
    }
    expect(done).toHaveLength(100_000)
  })

  it('stop a publisher at the bound, and let it go on in the next turn', async () => {
    const turns = new PublishTurns()
    const done: string[] = []
    const publisher = new Publisher(turns, done, 'a', 10, 1_500)
    publisher.onTurn()
    // 4,500 is the first sum beyond 4,096.
    expect(done).toHaveLength(3)
    for (const count of [6, 9, 10, 10]) {
      await turn()
      expect(done).toHaveLength(count)
    }
  })

  it('go round: who was late again stands behind those whose turn did not come', async () => {
    const turns = new PublishTurns()
    const done: string[] = []
    for (const name of ['a', 'b', 'c']) new Publisher(turns, done, name, 2, 5_000).onTurn()
    expect(done.join('')).toBe('abc')
    for (const sum of ['abca', 'abcab', 'abcabc', 'abcabc']) {
      await turn()
      expect(done.join('')).toBe(sum)
    }
  })

  it('are asked before a message too: nothing is taken in a turn that is spent', async () => {
    const turns = new PublishTurns()
    const done: string[] = []
    new Publisher(turns, done, 'a', 1, 5_000).onTurn()
    const late = { onTurn: () => done.push('late') }
    expect(turns.mayGoOn(late)).toBe(false)
    expect(done).toEqual(['a'])
    await turn()
    expect(done).toEqual(['a', 'late'])
  })
})
