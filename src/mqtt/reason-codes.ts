/**
 * MQTT 5 reason codes (§2.4) and 3.1.1 return codes (§3.2.2.3), and the one table from the broker's
 * errors to both.
 */
import { ERROR_NAMES, type ErrorName } from '../core/errors.ts'

export const REASON = {
  success: 0x00,
  disconnectWithWill: 0x04,
  noMatchingSubscribers: 0x10,
  noSubscriptionExisted: 0x11,
  unspecified: 0x80,
  malformedPacket: 0x81,
  protocolError: 0x82,
  implementationSpecific: 0x83,
  unsupportedVersion: 0x84,
  clientIdInvalid: 0x85,
  badCredentials: 0x86,
  notAuthorized: 0x87,
  serverUnavailable: 0x88,
  serverBusy: 0x89,
  serverShuttingDown: 0x8b,
  badAuthenticationMethod: 0x8c,
  keepaliveTimeout: 0x8d,
  sessionTakenOver: 0x8e,
  topicFilterInvalid: 0x8f,
  topicNameInvalid: 0x90,
  packetIdInUse: 0x91,
  packetIdNotFound: 0x92,
  receiveMaximumExceeded: 0x93,
  topicAliasInvalid: 0x94,
  packetTooLarge: 0x95,
  messageRateTooHigh: 0x96,
  quotaExceeded: 0x97,
  administrativeAction: 0x98,
  sharedNotSupported: 0x9e
} as const

/** CONNACK return codes of 3.1 and 3.1.1. */
export const RETURN_CODE = {
  accepted: 0,
  unacceptableVersion: 1,
  identifierRejected: 2,
  serverUnavailable: 3,
  badCredentials: 4,
  notAuthorized: 5
} as const

interface Codes {
  /** MQTT 5, in CONNACK, PUBACK, PUBREC, SUBACK, UNSUBACK and DISCONNECT. */
  readonly reason: number
  /** 3.1 and 3.1.1, in CONNACK. */
  readonly returnCode: number
}

const R = REASON
const C = RETURN_CODE

const CODES = {
  notAuthorized: { reason: R.notAuthorized, returnCode: C.notAuthorized },
  notFound: { reason: R.unspecified, returnCode: C.serverUnavailable },
  preconditionFailed: { reason: R.implementationSpecific, returnCode: C.serverUnavailable },
  locked: { reason: R.implementationSpecific, returnCode: C.serverUnavailable },
  reserved: { reason: R.notAuthorized, returnCode: C.notAuthorized },
  topicInvalid: { reason: R.topicNameInvalid, returnCode: C.notAuthorized },
  filterInvalid: { reason: R.topicFilterInvalid, returnCode: C.serverUnavailable },
  tooLarge: { reason: R.packetTooLarge, returnCode: C.serverUnavailable },
  quotaExceeded: { reason: R.quotaExceeded, returnCode: C.serverUnavailable },
  queueFull: { reason: R.quotaExceeded, returnCode: C.serverUnavailable },
  diskAlarm: { reason: R.quotaExceeded, returnCode: C.serverUnavailable },
  journalFailed: { reason: R.implementationSpecific, returnCode: C.serverUnavailable },
  clientIdInvalid: { reason: R.clientIdInvalid, returnCode: C.identifierRejected },
  clientIdTaken: { reason: R.clientIdInvalid, returnCode: C.identifierRejected },
  badCredentials: { reason: R.badCredentials, returnCode: C.badCredentials },
  shuttingDown: { reason: R.serverShuttingDown, returnCode: C.serverUnavailable },
  notAllowed: { reason: R.notAuthorized, returnCode: C.notAuthorized },
  notImplemented: { reason: R.implementationSpecific, returnCode: C.serverUnavailable },
  argumentInvalid: { reason: R.implementationSpecific, returnCode: C.serverUnavailable }
} as const satisfies Record<ErrorName, Codes>

// ERROR_CODES count from 1 in the order of their names.
const REASONS: readonly number[] = [R.success, ...ERROR_NAMES.map(name => CODES[name].reason)]
const RETURN_CODES: readonly number[] = [
  C.accepted,
  ...ERROR_NAMES.map(name => CODES[name].returnCode)
]

/** The MQTT 5 reason code of one of the broker's ERROR_CODES (as a positive number). */
export function reasonOf(code: number): number {
  return REASONS[code] ?? REASON.unspecified
}

/** The CONNACK return code of 3.1 and 3.1.1 of one of the broker's ERROR_CODES. */
export function returnCodeOf(code: number): number {
  return RETURN_CODES[code] ?? RETURN_CODE.serverUnavailable
}

/** The CONNACK return code that says what an MQTT 5 reason says, for refusals that the front-end finds. */
export function returnCodeOfReason(reason: number): number {
  switch (reason) {
    case REASON.unsupportedVersion:
      return RETURN_CODE.unacceptableVersion
    case REASON.clientIdInvalid:
      return RETURN_CODE.identifierRejected
    case REASON.badCredentials:
      return RETURN_CODE.badCredentials
    case REASON.notAuthorized:
      return RETURN_CODE.notAuthorized
    default:
      return RETURN_CODE.serverUnavailable
  }
}
