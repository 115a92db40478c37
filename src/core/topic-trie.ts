/**
 * From topic filters to whatever stands under them. All in topic form (see topic.ts).
 *
 * Filters without a wildcard, most of them, lie in one map from the whole topic: a match costs one
 * look-up. The others form a trie by levels. A match walks the topic's levels once and keeps the list
 * of nodes that are reached (as one simulates a nondeterministic automaton), each node at most once a
 * level: however many `#` there are, a match visits at most nodes × levels, without recursion. (One
 * descent for each `#` would grow exponentially.) A node behind `#` stays reached from level to level.
 */
import { ArraySet } from '../lib/array-set.ts'
import { hasWildcard, isDollarTopic } from './topic.ts'

/** Marks stay small integers: beyond this they start anew. */
const STEP_MAX = 0x3fff_0000

class TrieNode<T> {
  readonly parent: TrieNode<T> | null
  /** Its level of the filter. */
  readonly level: string
  readonly isHash: boolean
  children: Map<string, TrieNode<T>> | null
  plus: TrieNode<T> | null
  hash: TrieNode<T> | null
  values: ArraySet<T> | null
  /** Behind `#`: the step of a match in which it was reached last. */
  mark: number

  constructor(parent: TrieNode<T> | null, level: string) {
    this.parent = parent
    this.level = level
    this.isHash = level === '#'
    this.children = null
    this.plus = null
    this.hash = null
    this.values = null
    this.mark = 0
  }

  get isLeaf(): boolean {
    return this.children === null && this.plus === null && this.hash === null
  }
}

export class TopicTrie<T> {
  /** Nodes reached by the last match, counted once a level: what it cost. */
  visits: number
  private readonly exact: Map<string, ArraySet<T>>
  private readonly root: TrieNode<T>
  private count: number
  private wildcardCount: number
  private dollarCount: number
  /** Rises with each level of each match. */
  private step: number
  /** `step` at the begin of the match: what is marked later was reached in this match. */
  private firstStep: number
  private reached: TrieNode<T>[]
  private next: TrieNode<T>[]
  private nextCount: number

  constructor() {
    this.visits = 0
    this.exact = new Map()
    this.root = new TrieNode<T>(null, '')
    this.count = 0
    this.wildcardCount = 0
    this.dollarCount = 0
    this.step = 0
    this.firstStep = 0
    this.reached = []
    this.next = []
    this.nextCount = 0
  }

  /** Pairs of filter and value. */
  get size(): number {
    return this.count
  }

  /** Of them, those whose filter has a wildcard. */
  get wildcardSize(): number {
    return this.wildcardCount
  }

  /** Of them, those whose filter begins with `$`: without any, topics of ours reach nobody. */
  get dollarSize(): number {
    return this.dollarCount
  }

  /** Nodes of the trie but its root, counted one by one: for tests and reports. */
  get nodeCount(): number {
    let nodes = -1
    this.forEachNode(() => {
      nodes += 1
    })
    return nodes
  }

  /** False when this value stood under this filter already. A value may stand under many filters. */
  insert(filter: string, value: T): boolean {
    if (!hasWildcard(filter)) {
      const values = this.exact.get(filter)
      if (values === undefined) this.exact.set(filter, new ArraySet(value))
      else if (!values.add(value)) return false
      this.count += 1
      if (isDollarTopic(filter)) this.dollarCount += 1
      return true
    }
    const node = this.ensure(filter)
    if (node.values === null) node.values = new ArraySet(value)
    else if (!node.values.add(value)) return false
    this.count += 1
    this.wildcardCount += 1
    if (isDollarTopic(filter)) this.dollarCount += 1
    return true
  }

  /** False when this value did not stand under this filter. */
  remove(filter: string, value: T): boolean {
    if (!hasWildcard(filter)) {
      const values = this.exact.get(filter)
      if (values === undefined || !values.delete(value)) return false
      if (values.size === 0) this.exact.delete(filter)
      this.count -= 1
      if (isDollarTopic(filter)) this.dollarCount -= 1
      return true
    }
    const node = this.find(filter)
    if (node === null || node.values === null || !node.values.delete(value)) return false
    if (node.values.size === 0) node.values = null
    this.prune(node)
    this.count -= 1
    this.wildcardCount -= 1
    if (isDollarTopic(filter)) this.dollarCount -= 1
    return true
  }

  has(filter: string, value: T): boolean {
    const values = hasWildcard(filter) ? this.find(filter)?.values : this.exact.get(filter)
    return values?.has(value) ?? false
  }

  /**
   * Pushes the values of all filters that match into `out` and returns how many. A value that stands
   * under several matching filters comes once for each. The order is not defined.
   */
  match(topic: string, out: T[]): number {
    const before = out.length
    this.visits = 0
    const values = this.exact.get(topic)
    if (values !== undefined) pushAll(values, out)
    if (this.wildcardCount !== 0) this.matchWildcards(topic, out)
    return out.length - before
  }

  /** Calls `visit` for every pair, in no defined order. The trie must not change meanwhile. */
  forEach(visit: (filter: string, value: T) => void): void {
    for (const [filter, values] of this.exact) {
      for (const value of values.items) visit(filter, value)
    }
    this.forEachNode((node, filter) => {
      if (node.values !== null) for (const value of node.values.items) visit(filter, value)
    })
  }

  private forEachNode(visit: (node: TrieNode<T>, filter: string) => void): void {
    const open: { node: TrieNode<T>; filter: string }[] = [{ node: this.root, filter: '' }]
    for (let top = open.pop(); top !== undefined; top = open.pop()) {
      const { node, filter } = top
      visit(node, filter)
      const prefix = node.parent === null ? '' : `${filter}/`
      if (node.hash !== null) open.push({ node: node.hash, filter: `${prefix}#` })
      if (node.plus !== null) open.push({ node: node.plus, filter: `${prefix}+` })
      if (node.children === null) continue
      for (const child of node.children.values()) {
        open.push({ node: child, filter: prefix + child.level })
      }
    }
  }

  private clearMarks(): void {
    this.forEachNode(node => {
      node.mark = 0
    })
    this.step = 0
  }

  private matchWildcards(topic: string, out: T[]): void {
    const root = this.root
    if (this.step > STEP_MAX) this.clearMarks()
    // [MQTT-4.7.2-1]: no wildcard as first level matches a topic that begins with `$`.
    const isDollar = isDollarTopic(topic)
    this.step += 1
    this.firstStep = this.step
    this.nextCount = 0
    this.next[this.nextCount++] = root
    if (!isDollar && root.hash !== null) this.reachHash(root.hash, out)

    for (let start = 0; start !== -1 && this.nextCount !== 0; ) {
      const slash = topic.indexOf('/', start)
      this.advance(topic, start, slash === -1 ? topic.length : slash, isDollar && start === 0, out)
      start = slash === -1 ? -1 : slash + 1
    }
    for (let i = 0; i < this.nextCount; i++) {
      const node = this.next[i] as TrieNode<T>
      // Those behind `#` gave their values when they were reached first.
      if (!node.isHash && node.values !== null) pushAll(node.values, out)
    }
  }

  /** One level of the topic: from the nodes reached before it to those reached behind it. */
  private advance(topic: string, start: number, end: number, onlyLiteral: boolean, out: T[]): void {
    const reached = this.next
    const reachedCount = this.nextCount
    this.next = this.reached
    this.reached = reached
    this.nextCount = 0
    this.step += 1
    let level: string | null = null
    for (let i = 0; i < reachedCount; i++) {
      const node = reached[i] as TrieNode<T>
      if (node.isHash) this.reachHash(node, out)
      if (node.children !== null) {
        if (level === null) level = topic.substring(start, end)
        const child = node.children.get(level)
        if (child !== undefined) this.reach(child, out)
      }
      if (node.plus !== null && !onlyLiteral) this.reach(node.plus, out)
    }
  }

  /** A node that is not behind `#`: only its one parent leads to it, so it comes once a level. */
  private reach(node: TrieNode<T>, out: T[]): void {
    this.visits += 1
    this.next[this.nextCount++] = node
    if (node.hash !== null) this.reachHash(node.hash, out)
  }

  /** `#` matches zero levels too: reached together with its parent, and so is a `#` behind it. */
  private reachHash(first: TrieNode<T>, out: T[]): void {
    for (let node: TrieNode<T> | null = first; node !== null; node = node.hash) {
      if (node.mark === this.step) return
      // Whatever follows matches: its values are due when it is reached first, whatever comes.
      if (node.mark < this.firstStep && node.values !== null) pushAll(node.values, out)
      node.mark = this.step
      this.visits += 1
      if (!node.isLeaf) this.next[this.nextCount++] = node
    }
  }

  private ensure(filter: string): TrieNode<T> {
    let node = this.root
    for (const level of filter.split('/')) node = child(node, level) ?? addChild(node, level)
    return node
  }

  private find(filter: string): TrieNode<T> | null {
    let node: TrieNode<T> | null = this.root
    for (const level of filter.split('/')) {
      node = child(node, level)
      if (node === null) return null
    }
    return node
  }

  /** Takes away a node that holds nothing, and its parents that then hold nothing. */
  private prune(node: TrieNode<T>): void {
    let parent = node.parent
    while (parent !== null && node.values === null && node.isLeaf) {
      if (node.level === '+') parent.plus = null
      else if (node.level === '#') parent.hash = null
      else {
        parent.children?.delete(node.level)
        if (parent.children?.size === 0) parent.children = null
      }
      node = parent
      parent = node.parent
    }
    // The lists of the last match must not keep what is gone.
    this.reached.length = 0
    this.next.length = 0
  }
}

function child<T>(node: TrieNode<T>, level: string): TrieNode<T> | null {
  if (level === '+') return node.plus
  if (level === '#') return node.hash
  return node.children?.get(level) ?? null
}

function addChild<T>(node: TrieNode<T>, level: string): TrieNode<T> {
  const added = new TrieNode<T>(node, level)
  if (level === '+') node.plus = added
  else if (level === '#') node.hash = added
  else {
    node.children ??= new Map()
    node.children.set(level, added)
  }
  return added
}

function pushAll<T>(values: ArraySet<T>, out: T[]): void {
  const items = values.items
  for (let i = 0; i < items.length; i++) out.push(items[i] as T)
}
