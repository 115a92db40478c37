/** What a connection waits for, in the order in which it passes through. */

/** Waits for the protocol header. */
export const AWAIT_HEADER = 0
export const AWAIT_START_OK = 1
/** The credentials are being looked at. */
export const AUTHENTICATING = 2
export const AWAIT_TUNE_OK = 3
export const AWAIT_OPEN = 4
export const RUNNING = 5
/** connection.close was sent: only its close-ok counts. */
export const CLOSING = 6
export const CLOSED = 7
/** The login failed: the connection ends soon, and nothing is read or said until then. */
export const REFUSED = 8
/** close-ok was sent: it is the client who ends the socket now. */
export const LEAVING = 9
