/** Flags of what stands behind a message in its record. */

export const TO_QOS = 3
export const TO_RETAIN = 4
export const TO_HAS_IDS = 8
/** Its queue does not survive a restart. */
export const TO_TRANSIENT = 16
/** A store time of its own: see `DestinationReader.time`. */
export const TO_HAS_TIME = 32
/** It is no destination: the entry that it names is finished. */
export const TO_SETTLES = 64
/** It is no destination: the key of the message is remembered, see deduplication.ts. */
export const TO_REMEMBERS = 128
