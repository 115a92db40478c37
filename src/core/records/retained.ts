/** Records of retained slots: at a checkpoint, and when one is cleared without a message. */
import type { ByteWriter } from '../../lib/byte-writer.ts'
import type { BytesReader } from '../../lib/bytes-reader.ts'
import { RetainedSlot } from '../retained.ts'
import type { State } from '../state.ts'

export function writeRetained(writer: ByteWriter, vhost: string, slot: RetainedSlot): void {
  writer.shortString(vhost)
  writer.longString(slot.topic)
  writer.varint(slot.sequence)
  writer.u32(slot.segment)
  writer.u32(slot.offset)
  writer.u32(slot.bytes)
  writer.u32(slot.flags)
}

export function applyRetained(state: State, reader: BytesReader): boolean {
  const vhost = reader.shortString()
  const topic = reader.longString()
  const sequence = reader.varint()
  const segment = reader.u32()
  const offset = reader.u32()
  const bytes = reader.u32()
  state.setRetained(vhost, new RetainedSlot(topic, segment, offset, bytes, reader.u32(), sequence))
  return true
}

export function writeRetainedClear(writer: ByteWriter, vhost: string, topic: string): void {
  writer.shortString(vhost)
  writer.longString(topic)
}

export function applyRetainedClear(state: State, reader: BytesReader): boolean {
  const vhost = reader.shortString()
  return state.clearRetained(vhost, reader.longString())
}
