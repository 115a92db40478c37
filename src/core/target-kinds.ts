/** What stands in an exchange's answer: `kind` of a `TopicTarget`. */

/** A `Binding` with a `queue`. */
export const QUEUE_BINDING = 0
/** A `Binding` with an `exchange`. */
export const EXCHANGE_BINDING = 1
/** An MQTT subscription. */
export const SUBSCRIPTION = 2
/** A shared subscription: one queue, several sessions. */
export const SHARED_GROUP = 3
/** The store of an exchange that delays. */
export const DELAY = 4
