/** One input of a fuzz test: what peers send and what happens meanwhile; spoilt, cut, made small, written down. */
import { between, type Random } from './random.ts'
import {
  chance,
  edge,
  type Mark,
  type Piece,
  pick,
  randomBytes,
  readNumber,
  varint,
  writeNumber
} from './fuzz-sketch.ts'

export type Protocol = 'mqtt' | 'amqp'

/** What happens beside bytes. */
export const EVENTS = [
  // Turns pass until nothing is left to do.
  'turn',
  // So many seconds pass.
  'second',
  'ten-seconds',
  // Nothing becomes durable, until it does.
  'hold-disk',
  'sync',
  // The disk's alarm.
  'alarm',
  'all-clear',
  // The broker reads no publishers.
  'pause',
  'go-on',
  // The peer takes nothing of what is sent to it.
  'stall',
  'drain',
  // The peer sends nothing more; or the connection is cut.
  'hang-up',
  'cut'
] as const
export type Event = (typeof EVENTS)[number]

export interface Step {
  readonly peer: number
  readonly piece: Piece | null
  readonly event: Event
}

export interface Case {
  readonly protocol: Protocol
  readonly steps: readonly Step[]
}

export function sends(peer: number, piece: Piece): Step {
  return { peer, piece, event: 'turn' }
}

export function happens(peer: number, event: Event): Step {
  return { peer, piece: null, event }
}

// Mutations

const NO_MARKS: readonly Mark[] = []

/** The same with something wrong: what stands before the first fault stays valid. */
export function mutate(random: Random, steps: readonly Step[], other: () => Step[]): Step[] {
  const changed = [...steps]
  const count = chance(random, 0.7) ? 1 : between(random, 2, 4)
  for (let i = 0; i < count; i++) mutateOnce(random, changed, other)
  return changed
}

function mutateOnce(random: Random, steps: Step[], other: () => Step[]): void {
  const at = Math.floor(random() * steps.length)
  const step = steps[at]
  if (step === undefined) return
  switch (between(random, 0, 9)) {
    case 0:
      steps.splice(at, 1)
      return
    case 1:
      steps.splice(at, 0, step)
      return
    case 2: {
      const to = Math.floor(random() * steps.length)
      steps[at] = steps[to]!
      steps[to] = step
      return
    }
    case 3: {
      // A splice of two conversations.
      const rest = other()
      steps.splice(at, steps.length, ...rest.slice(Math.floor(random() * rest.length)))
      return
    }
    case 4:
      steps.splice(at, 0, happens(step.peer, pick(random, EVENTS)))
      return
    default:
      if (step.piece !== null) steps[at] = sends(step.peer, spoil(random, step.piece))
  }
}

/** One packet with something wrong. */
export function spoil(random: Random, piece: Piece): Piece {
  const { bytes, marks } = piece
  const at = Math.floor(random() * bytes.length)
  switch (between(random, 0, 8)) {
    case 0:
    case 1:
    case 2:
    case 3:
      if (marks.length > 0) return respoil(random, piece, pick(random, marks))
      return flip(random, piece, at)
    case 4:
      return flip(random, piece, at)
    case 5:
      return unmarked(bytes.subarray(0, at), randomBytes(random, 4), bytes.subarray(at))
    case 6:
      return unmarked(bytes.subarray(0, at), bytes.subarray(at + between(random, 1, 4)))
    case 7: {
      const end = at + between(random, 1, 8)
      return unmarked(bytes.subarray(0, end), bytes.subarray(at))
    }
    default:
      return unmarked(bytes.subarray(0, at))
  }
}

function unmarked(...parts: Buffer[]): Piece {
  return { bytes: Buffer.concat(parts), marks: NO_MARKS }
}

function flip(random: Random, { bytes, marks }: Piece, at: number): Piece {
  const copy = Buffer.from(bytes)
  if (copy.length === 0) return { bytes: copy, marks }
  copy[at] = chance(random, 0.5) ? copy[at]! ^ (1 << between(random, 0, 7)) : random() * 256
  return { bytes: copy, marks }
}

/** Another number where one stands: a little more or less, or an edge. */
function respoil(random: Random, { bytes, marks }: Piece, mark: Mark): Piece {
  if (mark.bytes === 0) {
    let end = mark.at
    while (end < bytes.length && bytes[end]! > 127 && end < mark.at + 3) end++
    const value = bytes[mark.at]! & 127
    const wrong = chance(random, 0.5) ? Math.max(0, value + between(random, -3, 3)) : edge(random)
    const number = chance(random, 0.1) ? Buffer.from([0xff, 0xff, 0xff, 0xff]) : varint(wrong)
    return unmarked(bytes.subarray(0, mark.at), number, bytes.subarray(end + 1))
  }
  const copy = Buffer.from(bytes)
  const value = readNumber(copy, mark.at, mark.bytes)
  const wrong = chance(random, 0.5) ? Math.max(0, value + between(random, -3, 3)) : edge(random)
  writeNumber(copy, mark.at, mark.bytes, wrong)
  return { bytes: copy, marks }
}

// Cuts

/** How the bytes of a packet are cut into reads. */
export type Cutting = 'joined' | 'bytes' | 'random'

/** Where the reads of so many bytes end that arrive together. */
export function cut(bytes: number, cutting: Cutting, random: Random): number[] {
  if (cutting === 'joined' || bytes < 2) return [bytes]
  const ends: number[] = []
  const most = cutting === 'bytes' ? 1 : pick(random, [2, 5, 20, 50, 200, 1_000])
  for (let at = 0; at < bytes; ) {
    at = Math.min(bytes, at + (most === 1 ? 1 : between(random, 1, most)))
    ends.push(at)
  }
  return ends
}

// In files

export interface WrittenCase {
  readonly protocol: Protocol
  /** Why it is kept. */
  readonly why: string
  /** `0:c000` is what peer 0 sends, `0 cut` what happens to it. */
  readonly steps: readonly string[]
}

export function write(input: Case, why: string): WrittenCase {
  const steps = input.steps.map(({ peer, piece, event }) =>
    piece === null ? `${peer} ${event}` : `${peer}:${piece.bytes.toString('hex')}`
  )
  return { protocol: input.protocol, why, steps }
}

export function read(written: WrittenCase): Case {
  const steps = written.steps.map(step => {
    const [, peer = '0', mark, rest = ''] = /^(\d)([ :])(.*)$/.exec(step) ?? []
    if (mark === ':') {
      return sends(Number(peer), { bytes: Buffer.from(rest, 'hex'), marks: NO_MARKS })
    }
    const event = EVENTS.find(each => each === rest)
    if (event === undefined) throw new Error(`no such step: ${step}`)
    return happens(Number(peer), event)
  })
  return { protocol: written.protocol, steps }
}

/** A smaller input that fails too: steps are left out, then bytes of the steps, as long as it still does. */
export function shrink(input: Case, fails: (smaller: Case) => boolean, triesMax = 2_000): Case {
  let tries = 0
  let steps = [...input.steps]
  const attempt = (smaller: Step[]): boolean => {
    if (tries++ >= triesMax || !fails({ ...input, steps: smaller })) return false
    steps = smaller
    return true
  }
  for (
    let size = Math.ceil(steps.length / 2);
    size >= 1;
    size = size === 1 ? 0 : Math.ceil(size / 2)
  ) {
    for (let at = steps.length - size; at >= 0; at -= size) {
      attempt([...steps.slice(0, at), ...steps.slice(at + size)])
    }
  }
  for (let index = 0; index < steps.length; index++) {
    for (let size = 64; size >= 1; size >>= 1) {
      let at = 0
      while (steps[index]?.piece && at < steps[index]!.piece!.bytes.length) {
        const { peer, piece } = steps[index]!
        const { bytes } = piece!
        const fewer = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + size)])
        const isSmaller = attempt(
          steps.map((step, i) =>
            i === index ? sends(peer, { bytes: fewer, marks: NO_MARKS }) : step
          )
        )
        if (!isSmaller) at += size
      }
    }
  }
  return { ...input, steps }
}
