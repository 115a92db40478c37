/** What becomes of a delivery. */
export const SETTLE = 0
export const REQUEUE = 1
export const REJECT = 2
/** Back to its queue because it failed: rejected, or left by its channel. */
export const FAIL = 3
export type Outcome = typeof SETTLE | typeof REQUEUE | typeof REJECT | typeof FAIL
