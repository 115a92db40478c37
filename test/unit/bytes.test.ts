import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ByteWriter } from '../../src/lib/byte-writer.ts'
import { allocateBytes, copyBytes } from '../../src/lib/bytes.ts'
import { BytesError, BytesReader } from '../../src/lib/bytes-reader.ts'

const whole = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
/** As a kind of field and its value. */
const field = fc.oneof(
  fc.tuple(fc.constant('u8' as const), fc.integer({ min: 0, max: 0xff })),
  fc.tuple(fc.constant('u16' as const), fc.integer({ min: 0, max: 0xffff })),
  fc.tuple(fc.constant('u32' as const), fc.integer({ min: 0, max: 0xffff_ffff })),
  fc.tuple(fc.constant('u64' as const), whole),
  fc.tuple(fc.constant('varint' as const), whole),
  fc.tuple(fc.constant('i8' as const), fc.integer({ min: -128, max: 127 })),
  fc.tuple(fc.constant('i16' as const), fc.integer({ min: -0x8000, max: 0x7fff })),
  fc.tuple(fc.constant('i32' as const), fc.integer()),
  fc.tuple(fc.constant('f32' as const), fc.float()),
  fc.tuple(fc.constant('f64' as const), fc.double()),
  fc.tuple(fc.constant('bigU64' as const), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  fc.tuple(fc.constant('bigI64' as const), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
  fc.tuple(fc.constant('shortString' as const), fc.string({ unit: 'binary', maxLength: 60 })),
  fc.tuple(fc.constant('longString' as const), fc.string({ unit: 'binary', maxLength: 400 })),
  fc.tuple(fc.constant('longBytes' as const), fc.uint8Array({ maxLength: 400 }))
)

function written(write: (writer: ByteWriter) => void): Buffer {
  const writer = new ByteWriter()
  write(writer)
  return writer.toBuffer()
}

describe('bytes written', () => {
  it('are read as they were, whatever the fields', () => {
    fc.assert(
      fc.property(fc.array(field, { maxLength: 40, size: 'max' }), fields => {
        const writer = new ByteWriter(16)
        for (const [kind, value] of fields) {
          ;(writer[kind] as (value: unknown) => void).call(writer, value)
        }
        const reader = new BytesReader(writer.view())
        for (const [kind, value] of fields) {
          const read: unknown = reader[kind]()
          if (value instanceof Uint8Array) expect(Buffer.compare(read as Buffer, value)).toBe(0)
          else expect(read).toBe(value)
        }
        reader.expectEnd()
        expect(reader.remaining).toBe(0)
      }),
      { numRuns: 500 }
    )
  })

  it('are big-endian', () => {
    const bytes = written(writer => {
      writer.u16(0x0102)
      writer.u32(0x03040506)
      writer.u64(2 ** 53 - 1)
      writer.varint(300)
      writer.shortString('é')
      writer.longString('a')
    })
    expect(bytes.toString('hex')).toBe('010203040506001fffffffffffffac0202c3a90000000161')
  })

  it('start anew after a reset, and keep a length that is patched in', () => {
    const writer = new ByteWriter()
    writer.bytes(Buffer.alloc(1_000, 1))
    expect(writer.length).toBe(1_000)
    writer.reset()
    writer.u32(0)
    writer.utf8('abc')
    writer.patchU32(0, 3)
    expect(writer.view().toString('latin1')).toBe('\0\0\0\x03abc')
    expect(() => writer.patchU32(4, 1)).toThrow(RangeError)
  })

  it('never hold what does not fit', () => {
    const tooLarge: ((writer: ByteWriter) => void)[] = [
      writer => writer.u8(256),
      writer => writer.u8(-1),
      writer => writer.u16(0x1_0000),
      writer => writer.u32(2 ** 32),
      writer => writer.u64(2 ** 53),
      writer => writer.u64(1.5),
      writer => writer.u64(-1),
      writer => writer.varint(-1),
      writer => writer.varint(Number.NaN),
      writer => writer.bigU64(2n ** 64n),
      writer => writer.shortString('é'.repeat(128))
    ]
    for (const write of tooLarge) {
      const writer = new ByteWriter()
      expect(() => write(writer)).toThrow(RangeError)
      expect(writer.length).toBe(0)
    }
  })
})

describe('bytes read', () => {
  it('end where they end: whatever is cut off or lies, nothing behind is seen', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 40 }),
        fc.array(field, { maxLength: 8 }),
        (raw, fields) => {
          const buffer = Buffer.concat([raw, Buffer.alloc(600, 0x41)])
          const reader = new BytesReader(buffer, 0, raw.length)
          for (const [kind] of fields) {
            try {
              reader[kind]()
            } catch (error) {
              expect(error).toBeInstanceOf(BytesError)
            }
            expect(reader.offset).toBeLessThanOrEqual(raw.length)
          }
        }
      ),
      { numRuns: 2_000 }
    )
  })

  it.each([
    ['u8', ''],
    ['u16', '00'],
    ['u32', '000000'],
    ['u64', '0020000000000000'],
    ['varint', '80'],
    ['varint', 'ffffffffffffffff'],
    ['varint', 'ffffffffffffff7f'],
    ['shortString', '0261'],
    ['shortString', '02c0af'],
    ['shortString', '03eda080'],
    ['longString', 'ffffffff61'],
    ['longBytes', '0000000261']
  ] as const)('that are no %s are refused: %s', (kind, hex) => {
    expect(() => new BytesReader(Buffer.from(hex, 'hex'))[kind]()).toThrow(BytesError)
  })

  it('may hold the replacement character itself', () => {
    const bytes = written(writer => writer.shortString('a\ufffdb'))
    expect(new BytesReader(bytes).shortString()).toBe('a\ufffdb')
  })

  it('can be skipped, taken as a view, and must be read to the end', () => {
    const buffer = Buffer.from([0, 1, 2, 3, 4])
    const reader = new BytesReader(buffer, 1, 4)
    reader.skip(1)
    const view = reader.bytes(1)
    expect(view[0]).toBe(2)
    buffer[2] = 9
    expect(view[0]).toBe(9)
    expect(() => reader.expectEnd()).toThrow(BytesError)
    expect(() => reader.skip(2)).toThrow(BytesError)
    expect(() => new BytesReader(buffer, 2, 6)).toThrow(RangeError)
    expect(() => new BytesReader(buffer, -1)).toThrow(RangeError)
    expect(() => new BytesReader(buffer, 4, 2)).toThrow(RangeError)
  })
})

describe('bytes copied', () => {
  const makers = { viewed: allocateBytes, plain: (bytes: number) => Buffer.alloc(bytes) }

  /** Every length over the edges between the ways to copy, from and to every alignment. */
  function copyAll(source: Buffer, target: Buffer): void {
    for (let i = 0; i < source.length; i++) source[i] = (i * 7 + 1) & 255
    for (let length = 0; length <= 130; length++) {
      for (let shift = 0; shift < 64; shift++) {
        const from = shift & 7
        const to = 1 + (shift >> 3)
        target.fill(0)
        expect(copyBytes(source, from, from + length, target, to)).toBe(to + length)
        const expected = Buffer.alloc(target.length)
        source.copy(expected, to, from, from + length)
        if (!target.equals(expected)) throw new Error(`${length} bytes from ${from} to ${to}`)
      }
    }
  }

  for (const from of Object.keys(makers) as (keyof typeof makers)[]) {
    for (const to of Object.keys(makers) as (keyof typeof makers)[]) {
      it(`arrive whole and touch nothing else, from a ${from} buffer to a ${to} one`, () => {
        copyAll(makers[from](160), makers[to](160))
      })
    }
  }
})
