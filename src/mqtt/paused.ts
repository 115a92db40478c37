/** Why the reading of a connection is paused, a bit each; each goes by itself. */
export const PAUSED_LOGIN = 1
/** What is not durable yet has filled the journal's buffers. */
export const PAUSED_PRESSURE = 2
/** Messages wait for the disk's alarm or a full queue to pass. */
export const PAUSED_HELD = 4
/** Enough was published in this turn. */
export const PAUSED_TURN = 8
