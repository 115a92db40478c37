/**
 * What devices send that the specification does not allow, or leaves open: each given to Debian's mosquitto and to the
 * program. What mosquitto forgives is forgiven, but where `habits.ts` says why not.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectBytes } from '../support/bad-inputs.ts'
import { behaviour, CONNECTS, PACKETS } from '../support/habits.ts'
import { Mosquitto } from '../support/mosquitto.ts'
import { Program } from '../support/program.ts'
import { bytes, packet, RawMqtt, text } from '../support/raw-mqtt.ts'
import { isAvailable, requireProgram } from '../support/require.ts'

const CHOICES = fileURLToPath(new URL('../support/conformance/choices.md', import.meta.url))

let mosquitto: Mosquitto
let program: Program

beforeAll(async () => {
  program = await Program.start()
  if (isAvailable('mosquitto')) mosquitto = await Mosquitto.start()
})
afterAll(async () => {
  await program.remove()
  await mosquitto?.remove()
})

/** Both brokers do the same, or each its own where that is a documented choice. */
async function compare(input: Buffer, choice: string | undefined): Promise<void> {
  const theirs = await behaviour(mosquitto.port, input)
  const mine = await behaviour(program.port('mqtt'), input)
  if (choice === undefined) expect(mine).toEqual(theirs)
  else expect(mine).not.toEqual(theirs)
}

requireProgram('mosquitto')('beside mosquitto', () => {
  it.each(CONNECTS)('CONNECT: $name', async ({ input, choice }) => {
    await compare(input, choice)
  })

  it.each(PACKETS)('packets: $name', async ({ input, choice }) => {
    await compare(input, choice)
  })

  /** Subscribed to `habit/#`; returns what comes, as topic and payload, until `habit/end`. */
  async function watch(port: number): Promise<(until: RawMqtt) => Promise<string[]>> {
    const raw = await RawMqtt.dial(port)
    await raw.connect(4, { clientId: 'watcher' })
    raw.send(packet(0x82, '00 01', text('habit/#'), '00'))
    await raw.next()
    return async () => {
      const seen: string[] = []
      const ender = await RawMqtt.dial(port)
      await ender.connect(4, { clientId: 'ender' })
      // What the other connection caused has come by then.
      await new Promise(resolve => setTimeout(resolve, 300))
      ender.send(packet(0x30, text('habit/end')))
      for (;;) {
        const found = await raw.next()
        const content = found.subarray(4).toString()
        if (content === 'habit/end') break
        seen.push(content)
      }
      ender.destroy()
      raw.destroy()
      return seen
    }
  }

  const sleeper = connectBytes(4, 6, text('sleeper'), text('habit/will'), text('lost'))
  const reading = packet(0x32, text('habit/reading'), '00 01', Buffer.from('21'))

  describe.each([
    [
      'a sensor that sends all at once and goes to sleep',
      [sleeper, reading, 'e0 00'],
      'end',
      ['habit/reading21']
    ],
    [
      'one that shuts its side down behind a DISCONNECT',
      [sleeper, reading, 'e0 00'],
      'end',
      ['habit/reading21']
    ],
    [
      'one that shuts its side down without',
      [sleeper, reading],
      'end',
      ['habit/reading21', 'habit/willlost']
    ],
    [
      'one that resets the connection behind a DISCONNECT',
      [sleeper, reading, 'e0 00'],
      'reset',
      ['habit/reading21']
    ],
    [
      'one that is gone without a word',
      [sleeper, reading],
      'destroy',
      ['habit/reading21', 'habit/willlost']
    ],
    [
      'bytes behind a DISCONNECT',
      [sleeper, reading, 'e0 00', reading, '00 00'],
      'end',
      ['habit/reading21']
    ]
  ] as const)('%s', (_name, parts, how, expected) => {
    it.each(['mosquitto', 'motemq'])('is understood by %s', async broker => {
      const port = broker === 'mosquitto' ? mosquitto.port : program.port('mqtt')
      const finish = await watch(port)
      const raw = await RawMqtt.dial(port)
      raw.send(bytes(...parts))
      if (how === 'end') raw.socket.end()
      else {
        // Read, as far as it is to be read.
        await raw.next()
        await raw.next()
        if (how === 'reset') raw.socket.resetAndDestroy()
        else raw.destroy()
      }
      expect(await finish(raw)).toEqual(expected)
      raw.destroy()
    })
  })

  // Mosquitto 2.0.11 closes it for the QoS 2 that is never released.
  it('a client may ignore everything that it is told', async () => {
    const port = program.port('mqtt')
    const raw = await RawMqtt.dial(port)
    raw.send(connectBytes(4, 2, text('deaf')), packet(0x82, '00 01', text('deaf'), '02'))
    for (let n = 1; n <= 10; n++) {
      // One identifier for all, QoS 2 never released, deliveries never acknowledged, pings without waiting.
      raw.send(
        packet(0x32, text('deaf'), '00 01', 'aa'),
        packet(0x34, text('deaf'), '00 02', 'bb'),
        'c0 00'
      )
    }
    let pongs = 0
    while (pongs < 10) if ((await raw.next())[0] === 0xd0) pongs++
    raw.send('c0 00')
    for (let next = await raw.next(); next[0] !== 0xd0; ) next = await raw.next()
    raw.destroy()
  })
})

describe('the list in the documentation', () => {
  it('has every choice of ours', () => {
    const page = readFileSync(CHOICES, 'utf8')
    for (const { name, choice } of [...CONNECTS, ...PACKETS]) {
      if (choice !== undefined) expect(page).toContain(`| ${name} | ${choice} |`)
      else expect(page).toContain(`- ${name}\n`)
    }
  })
})
