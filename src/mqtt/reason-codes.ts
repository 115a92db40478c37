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
  retainNotSupported: 0x9a,
  useAnotherServer: 0x9c,
  serverMoved: 0x9d,
  sharedNotSupported: 0x9e,
  wildcardsNotSupported: 0xa2
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
  /** MQTT 5, the reason string. */
  readonly text: string
}

const R = REASON
const C = RETURN_CODE

const CODES = {
  notAuthorized: { reason: R.notAuthorized, returnCode: C.notAuthorized, text: 'not authorized' },
  notFound: { reason: R.unspecified, returnCode: C.serverUnavailable, text: 'not found' },
  preconditionFailed: {
    reason: R.implementationSpecific,
    returnCode: C.serverUnavailable,
    text: 'exists otherwise, or is in use'
  },
  locked: {
    reason: R.implementationSpecific,
    returnCode: C.serverUnavailable,
    text: 'belongs to another connection'
  },
  reserved: { reason: R.notAuthorized, returnCode: C.notAuthorized, text: 'a reserved name' },
  topicInvalid: { reason: R.topicNameInvalid, returnCode: C.notAuthorized, text: 'no topic name' },
  filterInvalid: {
    reason: R.topicFilterInvalid,
    returnCode: C.serverUnavailable,
    text: 'no topic filter'
  },
  tooLarge: { reason: R.packetTooLarge, returnCode: C.serverUnavailable, text: 'too large' },
  quotaExceeded: {
    reason: R.quotaExceeded,
    returnCode: C.serverUnavailable,
    text: 'quota exceeded'
  },
  queueFull: { reason: R.quotaExceeded, returnCode: C.serverUnavailable, text: 'a queue is full' },
  diskAlarm: {
    reason: R.quotaExceeded,
    returnCode: C.serverUnavailable,
    text: 'the disk of the broker is full'
  },
  journalFailed: {
    reason: R.implementationSpecific,
    returnCode: C.serverUnavailable,
    text: 'the disk of the broker failed'
  },
  clientIdInvalid: {
    reason: R.clientIdInvalid,
    returnCode: C.identifierRejected,
    text: 'no client id'
  },
  clientIdTaken: {
    reason: R.clientIdInvalid,
    returnCode: C.identifierRejected,
    text: 'the client id belongs to another user'
  },
  badCredentials: {
    reason: R.badCredentials,
    returnCode: C.badCredentials,
    text: 'bad user name or password'
  },
  shuttingDown: {
    reason: R.serverShuttingDown,
    returnCode: C.serverUnavailable,
    text: 'the broker stops'
  },
  notAllowed: { reason: R.notAuthorized, returnCode: C.notAuthorized, text: 'not allowed' },
  notImplemented: {
    reason: R.implementationSpecific,
    returnCode: C.serverUnavailable,
    text: 'not implemented'
  },
  argumentInvalid: {
    reason: R.implementationSpecific,
    returnCode: C.serverUnavailable,
    text: 'an argument is not valid'
  }
} as const satisfies Record<ErrorName, Codes>

// ERROR_CODES count from 1 in the order of their names.
const REASONS: readonly number[] = [R.success, ...ERROR_NAMES.map(name => CODES[name].reason)]
const RETURN_CODES: readonly number[] = [
  C.accepted,
  ...ERROR_NAMES.map(name => CODES[name].returnCode)
]

const TEXTS: readonly string[] = ['', ...ERROR_NAMES.map(name => CODES[name].text)]
const TEXTS_BY_REASON = new Map<number, string>([
  [R.notAuthorized, 'not authorized'],
  [R.topicFilterInvalid, 'no topic filter'],
  [R.topicNameInvalid, 'no topic name'],
  [R.quotaExceeded, 'quota exceeded'],
  [R.implementationSpecific, 'the broker cannot do this now'],
  [R.sharedNotSupported, 'shared subscriptions are not available']
])

/** The MQTT 5 reason code of one of the broker's ERROR_CODES (as a positive number). */
export function reasonOf(code: number): number {
  return REASONS[code] ?? REASON.unspecified
}

/** The reason string of one of the broker's ERROR_CODES. */
export function textOf(code: number): string {
  return TEXTS[code] ?? ''
}

/** The reason string of a reason code in a SUBACK. */
export function textOfReason(reason: number): string {
  return TEXTS_BY_REASON.get(reason) ?? ''
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
