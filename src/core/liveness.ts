/** Who counts the live bytes of segments and slabs. */
export interface Liveness {
  claim(segment: number, bytes: number): void
  release(segment: number, bytes: number): void
}
