/** Records of users: JSON, for they are few and their fields will grow. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import { BytesError, type BytesReader } from '../../lib/bytes-reader.ts'
import type { User } from '../principal.ts'
import type { State } from '../state.ts'

export function writeUser(writer: ByteWriter, user: User): void {
  writer.longString(JSON.stringify(user))
}

export function applyUser(state: State, reader: BytesReader): boolean {
  const text = reader.longString()
  let user: User
  try {
    user = JSON.parse(text) as User
  } catch (error) {
    if (error instanceof SyntaxError) throw new BytesError('user record is no JSON')
    throw error
  }
  if (typeof user?.name !== 'string') return false
  state.users.set(user.name, user)
  return true
}

export function writeUserDelete(writer: ByteWriter, name: string): void {
  writer.longString(name)
}

export function applyUserDelete(state: State, reader: BytesReader): boolean {
  return state.users.delete(reader.longString())
}
