import type { Readable } from 'node:stream'
import type { AedesOptions } from 'aedes'
import { describe, expectTypeOf, test } from 'vitest'
import {
  createCallbackPersistence,
  createPersistence,
  type JournalPersistence,
  type PersistedPacket,
  type PersistenceError,
  type PersistenceErrorCode
} from '../../src/persistence/index.ts'

describe('the types of motemq/persistence', () => {
  const persistence = createPersistence({ folder: 'data' })

  test('are what Aedes is handed', () => {
    expectTypeOf(persistence).toEqualTypeOf<JournalPersistence>()
    expectTypeOf({ persistence }).toExtend<AedesOptions>()
    expectTypeOf(createCallbackPersistence)
      .parameter(0)
      .toEqualTypeOf<Parameters<typeof createPersistence>[0]>()
  })

  test('say what a call resolves with', () => {
    expectTypeOf(persistence.outgoingEnqueue).returns.resolves.toBeVoid()
    expectTypeOf(persistence.outgoingClearMessageId).returns.resolves.toEqualTypeOf<
      PersistedPacket | undefined
    >()
    expectTypeOf(persistence.outgoingStream).returns.toEqualTypeOf<Readable>()
    expectTypeOf(persistence.close).returns.resolves.toBeVoid()
  })

  test('name every reason of a refusal', () => {
    expectTypeOf<PersistenceError['code']>().toEqualTypeOf<PersistenceErrorCode>()
  })
})
