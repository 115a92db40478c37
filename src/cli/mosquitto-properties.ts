/** `-D command identifier value`: MQTT 5 properties by their names. */
import { PROPERTY_TYPES, type PropertyKind, type PropertyValue } from '../client/properties.ts'
import { type ClientFlags, FlagMistake, type PropertyCommand } from './mosquitto-config.ts'

const MESSAGE = [
  'content-type',
  'correlation-data',
  'message-expiry-interval',
  'payload-format-indicator',
  'response-topic',
  'user-property'
]

/** What each packet may carry. */
const ALLOWED: Readonly<Record<PropertyCommand, readonly string[]>> = {
  connect: [
    'authentication-data',
    'authentication-method',
    'maximum-packet-size',
    'receive-maximum',
    'request-problem-information',
    'request-response-information',
    'session-expiry-interval',
    'topic-alias-maximum',
    'user-property'
  ],
  publish: [...MESSAGE, 'topic-alias', 'subscription-identifier'],
  subscribe: ['subscription-identifier', 'user-property'],
  unsubscribe: ['user-property'],
  disconnect: ['session-expiry-interval', 'user-property', 'reason-string'],
  will: [...MESSAGE, 'will-delay-interval']
}
/** Packets with properties that a user cannot set. */
const OTHER_COMMANDS = [
  'connack',
  'puback',
  'pubrec',
  'pubrel',
  'pubcomp',
  'suback',
  'unsuback',
  'auth'
]
const MAXIMA: Readonly<Partial<Record<PropertyKind, number>>> = {
  byte: 0xff,
  two: 0xffff,
  four: 0xffff_ffff,
  varint: 268_435_455
}

/** Reads the words behind `-D` into `flags`; returns how many it took. Throws a `FlagMistake`. */
export function readProperty(flags: ClientFlags, words: readonly string[]): number {
  const [commandText, identifier, value] = words
  if (commandText === undefined || identifier === undefined || value === undefined) {
    throw new FlagMistake('--property argument given but not enough arguments specified.')
  }
  const command = commandText.toLowerCase()
  const isOther = OTHER_COMMANDS.includes(command)
  if (!isOther && !Object.hasOwn(ALLOWED, command)) {
    throw new FlagMistake('Invalid command given in --property argument.')
  }
  const found = [...PROPERTY_TYPES].find(([, type]) => type.name === identifier)
  if (found === undefined) {
    throw new FlagMistake('Invalid property name given in --property argument.')
  }
  if (isOther) {
    throw new FlagMistake(
      `${identifier} property not supported for ${command} in --property argument.`
    )
  }
  const [id, { kind }] = found
  const packet = command as PropertyCommand
  if (!ALLOWED[packet].includes(identifier)) {
    throw new FlagMistake(
      `${identifier} property not allowed for ${command} in --property argument.`
    )
  }
  const list = flags.properties[packet]
  if (kind !== 'pair' && list.some(property => property.id === id)) {
    throw new FlagMistake(`${identifier} property given twice in --property argument.`)
  }
  list.push({ id, value: propertyValue(kind, words.slice(2)) })
  flags.version = 5
  return kind === 'pair' ? 4 : 3
}

function propertyValue(kind: PropertyKind, [first = '', second]: readonly string[]): PropertyValue {
  if (kind === 'string') return first
  if (kind === 'binary') return Buffer.from(first)
  if (kind !== 'pair') {
    const number = Number.parseInt(first, 10) || 0
    if (number < 0 || number > MAXIMA[kind]!) {
      throw new FlagMistake('Property value out of range in --property argument.')
    }
    return number
  }
  if (second === undefined) {
    throw new FlagMistake('--property argument given but not enough arguments specified.')
  }
  return [first, second]
}
