/** What becomes of a delivery. */
export const SETTLE = 0
export const REQUEUE = 1
export const REJECT = 2
export type Outcome = typeof SETTLE | typeof REQUEUE | typeof REJECT
