/**
 * From topics to values, and the topics that a filter matches: the trie turned round. All in topic
 * form. What a filter matches can be many; so it is walked in pieces, and a `TopicCursor` says where to
 * go on. Between two pieces topics may come and go: what is deleted is left out, what is new may come or
 * not, nothing else comes twice or is missed.
 */
import { assert } from '../lib/assert.ts'
import { filterMatches, hasWildcard, isDollarTopic } from './topic.ts'

export interface TopicEntry<T> {
  readonly topic: string
  /** Null when the topic was deleted after the entry was collected. */
  readonly value: T | null
}

/** Nodes looked at in one piece, for each entry that may be collected: filters that match little stop too. */
const VISITS_AN_ENTRY = 16

class TreeNode<T> implements TopicEntry<T> {
  readonly parent: TreeNode<T> | null
  readonly level: string
  /** '' while no value stands here. */
  topic: string
  value: T | null
  children: Map<string, TreeNode<T>> | null

  constructor(parent: TreeNode<T> | null, level: string) {
    this.parent = parent
    this.level = level
    this.topic = ''
    this.value = null
    this.children = null
  }
}

/** Children still to be looked at, against the filter from `index` on. Map iterators outlive changes. */
interface Frame<T> {
  readonly nodes: Iterator<TreeNode<T>>
  readonly index: number
  readonly isFirstLevel: boolean
}

/** Where a walk stands; made and understood by the tree alone. Holds at most a frame for each level. */
export class TopicCursor<T> {
  readonly filter: string
  readonly levels: readonly string[]
  /** `#` before the last level, as binding keys have it: what is found is checked against the filter. */
  readonly mustCheck: boolean
  readonly frames: Frame<T>[]

  constructor(filter: string) {
    this.filter = filter
    this.levels = filter.split('/')
    const hash = this.levels.indexOf('#')
    this.mustCheck = hash !== -1 && hash < this.levels.length - 1
    this.frames = []
  }
}

export class TopicTree<T extends object> {
  private readonly root: TreeNode<T>
  private readonly byTopic: Map<string, TreeNode<T>>
  /** Nodes of the tree but its root: what deep topics cost beside their bytes. */
  nodes: number

  constructor() {
    this.root = new TreeNode<T>(null, '')
    this.byTopic = new Map()
    this.nodes = 0
  }

  get size(): number {
    return this.byTopic.size
  }

  /** `nodes`, counted one by one: for tests. */
  get nodeCount(): number {
    let nodes = -1
    const open = [this.root]
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      nodes += 1
      if (node.children !== null) for (const child of node.children.values()) open.push(child)
    }
    return nodes
  }

  get(topic: string): T | null {
    return this.byTopic.get(topic)?.value ?? null
  }

  /** Returns the value that was replaced, or null. */
  set(topic: string, value: T): T | null {
    const existing = this.byTopic.get(topic)
    if (existing !== undefined) {
      const old = existing.value
      existing.value = value
      return old
    }
    let node = this.root
    for (const level of topic.split('/')) {
      node.children ??= new Map()
      let child = node.children.get(level)
      if (child === undefined) {
        child = new TreeNode(node, level)
        node.children.set(level, child)
        this.nodes++
      }
      node = child
    }
    node.topic = topic
    node.value = value
    this.byTopic.set(topic, node)
    return null
  }

  /** Returns the value that was there, or null. */
  delete(topic: string): T | null {
    const node = this.byTopic.get(topic)
    if (node === undefined) return null
    const old = node.value
    this.byTopic.delete(topic)
    node.value = null
    this.nodes -= prune(node)
    return old
  }

  /** Calls `visit` for every topic that `filter` matches, until it returns false. It may delete topics. */
  matching(filter: string, visit: (topic: string, value: T) => boolean): void {
    const cursor = this.begin(filter)
    const out: TopicEntry<T>[] = []
    for (let more = true; more; ) {
      out.length = 0
      more = this.advance(cursor, out)
      for (const { topic, value } of out) if (value !== null && !visit(topic, value)) return
    }
  }

  /**
   * Pushes up to `max` entries that `filter` matches into `out`, beginning behind `after` (null: at the
   * beginning), and returns where to go on, null at the end. It looks at no more than 16 × `max` nodes:
   * a piece may come out empty though more follow. `after` is used up.
   */
  collect(
    filter: string,
    after: TopicCursor<T> | null,
    max: number,
    out: TopicEntry<T>[]
  ): TopicCursor<T> | null {
    assert(max > 0, 'a piece has room for something')
    if (!hasWildcard(filter)) {
      const node = this.byTopic.get(filter)
      if (node !== undefined) out.push(node)
      return null
    }
    assert(after === null || after.filter === filter, 'a cursor belongs to its filter')
    const cursor = after ?? this.begin(filter)
    const full = out.length + max
    for (let visits = max * VISITS_AN_ENTRY; visits > 0 && out.length < full; visits--) {
      if (!this.advance(cursor, out)) return null
    }
    return cursor.frames.length === 0 ? null : cursor
  }

  /** All topics with their values, in no defined order. */
  entries(): IterableIterator<TopicEntry<T>> {
    return this.byTopic.values()
  }

  private begin(filter: string): TopicCursor<T> {
    const cursor = new TopicCursor<T>(filter)
    cursor.frames.push({ nodes: [this.root].values(), index: 0, isFirstLevel: false })
    return cursor
  }

  /** Looks at one more node, with the one that it leads to without a choice. False at the end. */
  private advance(cursor: TopicCursor<T>, out: TopicEntry<T>[]): boolean {
    const { frames } = cursor
    const frame = frames[frames.length - 1]
    if (frame === undefined) return false
    const next = frame.nodes.next()
    if (next.done === true) frames.pop()
    // [MQTT-4.7.2-1]: no wildcard as first level matches a topic that begins with `$`.
    else if (!frame.isFirstLevel || !isDollarTopic(next.value.level)) {
      this.enter(cursor, next.value, frame.index, out)
    }
    return true
  }

  /** `node` is reached by the filter's first `index` levels. */
  private enter(
    cursor: TopicCursor<T>,
    node: TreeNode<T>,
    index: number,
    out: TopicEntry<T>[]
  ): void {
    const { levels, frames } = cursor
    for (; index < levels.length; index++) {
      const level = levels[index] as string
      if (level === '#') {
        // The level before `#` matches too.
        emit(cursor, node, out)
        pushChildren(frames, node, index)
        return
      }
      if (level === '+') {
        pushChildren(frames, node, index + 1)
        return
      }
      const child = node.children?.get(level)
      if (child === undefined) return
      node = child
    }
    emit(cursor, node, out)
  }
}

function emit<T>(cursor: TopicCursor<T>, node: TreeNode<T>, out: TopicEntry<T>[]): void {
  if (node.value === null) return
  if (!cursor.mustCheck || filterMatches(cursor.filter, node.topic)) out.push(node)
}

function pushChildren<T>(frames: Frame<T>[], node: TreeNode<T>, index: number): void {
  if (node.children === null) return
  frames.push({ nodes: node.children.values(), index, isFirstLevel: node.parent === null })
}

/** Takes away a node that holds nothing, and its parents that then hold nothing. Returns how many went. */
function prune<T>(node: TreeNode<T>): number {
  let count = 0
  while (node.parent !== null && node.value === null && node.children === null) {
    const parent = node.parent
    parent.children?.delete(node.level)
    if (parent.children?.size === 0) parent.children = null
    node = parent
    count++
  }
  return count
}
