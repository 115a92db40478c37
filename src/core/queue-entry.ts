/** The words of an entry in a queue: its flags, and what it is charged with. */

/** States of an entry. */
export const SETTLED = 0
export const READY = 1
/** Delivered, not settled. */
export const UNACKED = 2
/** QoS 2: PUBREC is recorded, PUBCOMP is awaited. */
export const RELEASED = 3

/** Why an entry is held (RELEASED, in a queue that is no session's): to come again later; else of what it died. */
export const RETRY = 0

/** Flags of an entry; the low two bits are its state. */
export const ENTRY_STATE = 3
export const ENTRY_QOS_SHIFT = 2
export const ENTRY_QOS = 3 << ENTRY_QOS_SHIFT
export const ENTRY_RETAIN = 1 << 4
export const ENTRY_REDELIVERED = 1 << 5
/** The record's destination holds subscription identifiers. */
export const ENTRY_HAS_IDS = 1 << 6
/** The message has an expiry: look before it is delivered. */
export const ENTRY_EXPIRES = 1 << 7
/** Deliveries so far, up to 255. */
export const ENTRY_COUNT_SHIFT = 8
export const ENTRY_COUNT = 0xff << ENTRY_COUNT_SHIFT
/** Destinations that share the record, up to 65,535. */
export const ENTRY_SHARE_SHIFT = 16

/** As flags: so many destinations share the record. */
export function shareFlags(count: number): number {
  return Math.min(count, 0xffff) << ENTRY_SHARE_SHIFT
}

/** The flags of an entry whose record has other destinations now. */
export function withShares(flags: number, shares: number): number {
  return (flags & ((1 << ENTRY_SHARE_SHIFT) - 1)) | shares
}

/** A record's bytes beside its payload, roughly: what liveness accounting charges for them. */
const RECORD_OVERHEAD = 64

/** The share of a record's bytes that one destination is charged with. */
export function shareOf(bytes: number, flags: number): number {
  const share = flags >>> ENTRY_SHARE_SHIFT
  return share > 1 ? Math.ceil((bytes + RECORD_OVERHEAD) / share) : bytes + RECORD_OVERHEAD
}
