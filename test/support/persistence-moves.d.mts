export interface Move {
  readonly method: string
  readonly args: readonly unknown[]
}
export const METHODS: readonly string[]
export function moves(seed: number, lane: number): Generator<Move, void, void>
export function call(persistence: object, move: Move, isModel?: boolean): Promise<unknown>
export function dump(persistence: object, lane: number): Promise<string>
export function expected(
  Memory: new () => object,
  seed: number,
  lane: number,
  count: number
): Promise<[string, string]>
