/** A declaration of what exists must say the same; else RabbitMQ's words for what differs. */
import { BrokerError } from '../core/errors.ts'
import {
  type FieldTable,
  type FieldValue,
  fieldOf,
  fieldTypeName,
  integerOf
} from '../core/field-table.ts'

export interface About {
  kind: string
  name: string
  vhost: string
}

export function checkFlag(
  about: About,
  argument: string,
  received: boolean | string,
  current: boolean | string
): void {
  if (received === current) return
  throw inequivalent(about, argument, `'${received}'`, `'${current}'`)
}

/** The arguments that mean something must have the same value; integers of any width are alike. */
export function checkArguments(
  about: About,
  received: FieldTable,
  current: FieldTable,
  counts: (name: string) => boolean
): void {
  const names = new Set([...received, ...current].map(([name]) => name))
  for (const name of names) {
    if (!counts(name)) continue
    const theirs = fieldOf(received, name)
    const ours = fieldOf(current, name)
    if (theirs !== null && ours !== null && isSame(theirs, ours)) continue
    throw theirs !== null && ours !== null
      ? inequivalent(about, name, `'${theirs.value}'`, `'${ours.value}'`)
      : inequivalent(about, name, describe(theirs), describe(ours))
  }
}

function isSame(a: FieldValue, b: FieldValue): boolean {
  const number = integerOf(a)
  if (number !== null) return number === integerOf(b)
  return a.type === b.type && String(a.value) === String(b.value)
}

function describe(value: FieldValue | null): string {
  if (value === null) return 'none'
  return `the value '${value.value}' of type '${fieldTypeName(value.type)}'`
}

function inequivalent(
  about: About,
  argument: string,
  received: string,
  current: string
): BrokerError {
  const { kind, name, vhost } = about
  return new BrokerError(
    'preconditionFailed',
    `inequivalent arg '${argument}' for ${kind} '${name}' in vhost '${vhost}': ` +
      `received ${received} but current is ${current}`,
    { kind, name, vhost, argument, received, current, type: '' }
  )
}
