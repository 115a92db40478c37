/** Arguments in RabbitMQ's JSON: types that JSON has not come back as those that RabbitMQ gives them. */
import type { FieldTable, FieldValue } from '../core/field-table.ts'
import { isObject } from './json-body.ts'

export function tableToJson(table: FieldTable): Record<string, unknown> {
  const found: [string, unknown][] = table.map(([name, value]) => [name, fieldToJson(value)])
  // Not by assignment: a name may be `__proto__`.
  return Object.fromEntries(found)
}

function fieldToJson(value: FieldValue): unknown {
  switch (value.type) {
    case 'A':
      return value.value.map(fieldToJson)
    case 'F':
      return tableToJson(value.value)
    case 'l':
    case 'T':
      return Number(value.value)
    case 'D':
      return value.value / 10 ** value.scale
    case 'x':
      return value.value.toString('latin1')
    default:
      return value.value
  }
}

/** Null: there is a value that no argument can have. */
export function jsonToTable(object: Readonly<Record<string, unknown>>): FieldTable | null {
  const table: (readonly [string, FieldValue])[] = []
  for (const [name, json] of Object.entries(object)) {
    const value = jsonToField(json)
    if (value === null || Buffer.byteLength(name) > 255) return null
    table.push([name, value])
  }
  return table
}

function jsonToField(json: unknown): FieldValue | null {
  if (typeof json === 'string') return { type: 'S', value: json }
  if (typeof json === 'boolean') return { type: 't', value: json }
  if (json === null) return { type: 'V', value: null }
  if (typeof json === 'number') {
    return Number.isSafeInteger(json)
      ? { type: 'l', value: BigInt(json) }
      : { type: 'd', value: json }
  }
  if (Array.isArray(json)) {
    const values = json.map(jsonToField)
    return values.includes(null) ? null : { type: 'A', value: values as FieldValue[] }
  }
  if (!isObject(json)) return null
  const table = jsonToTable(json)
  return table === null ? null : { type: 'F', value: table }
}
