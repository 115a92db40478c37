/** Records of virtual hosts: JSON, for they are few and their fields will grow. `/` is always there. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import { removeVhost } from '../end-vhost.ts'
import type { State } from '../state.ts'
import { DEFAULT_VHOST, Vhost } from '../vhost.ts'
import { readJson, textOf, textsOf } from './json.ts'

export function writeVhost(writer: ByteWriter, vhost: Vhost): void {
  const { name, description, tags } = vhost
  writer.longString(JSON.stringify({ name, description, tags }))
}

export function applyVhost(state: State, reader: BytesReader): boolean {
  const fields = readJson(reader)
  const name = textOf(fields['name'])
  if (name === '') return false
  let vhost = state.vhost(name)
  if (vhost === null) {
    vhost = new Vhost(name)
    state.addVhost(vhost)
  }
  vhost.description = textOf(fields['description'])
  vhost.tags = textsOf(fields['tags'])
  return true
}

/** It takes with it all that it holds: exchanges, retained messages and wills have no other record of their end. */
export function writeVhostEnd(writer: ByteWriter, name: string): void {
  writer.longString(name)
}

export function applyVhostEnd(state: State, reader: BytesReader): boolean {
  const vhost = state.vhost(reader.longString())
  if (vhost === null || vhost.name === DEFAULT_VHOST) return false
  removeVhost(state, vhost)
  return true
}
