/** The segments that exist, and how many live bytes each holds. */
import { Segment } from './segment.ts'

export class SegmentTable {
  readonly byNumber = new Map<number, Segment>()
  liveBytes = 0
  /** Number of the next segment. */
  nextNumber = 1
  #last: Segment | null = null

  add(segment: Segment): void {
    this.byNumber.set(segment.number, segment)
    if (segment.number >= this.nextNumber) this.nextNumber = segment.number + 1
  }

  create(bytes: number, isOwnFile: boolean): Segment {
    const segment = new Segment(this.nextNumber, bytes, isOwnFile)
    this.add(segment)
    return segment
  }

  remove(segment: Segment): void {
    this.byNumber.delete(segment.number)
    this.liveBytes -= segment.liveBytes
    if (this.#last === segment) this.#last = null
  }

  /** The segment of a position; null if it was recycled or lost. */
  get(number: number): Segment | null {
    const last = this.#last
    if (last !== null && last.number === number) return last
    const found = this.byNumber.get(number) ?? null
    if (found !== null) this.#last = found
    return found
  }

  claim(number: number, bytes: number): void {
    const segment = this.get(number)
    if (segment === null) return
    segment.liveBytes += bytes
    this.liveBytes += bytes
    segment.emptiedTicket = -1
  }

  /** True when nothing in the segment is live any more. */
  release(number: number, bytes: number): boolean {
    const segment = this.get(number)
    if (segment === null) return false
    segment.liveBytes -= bytes
    this.liveBytes -= bytes
    return segment.liveBytes <= 0
  }
}
