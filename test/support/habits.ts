/** What devices do that the specification does not allow, or leaves open, as bytes that any broker can be given. */
import { connectAs, connectBytes } from './bad-inputs.ts'
import { type Bytes, bytes, packet, RawMqtt, text } from './raw-mqtt.ts'

export interface Habit {
  readonly name: string
  /** Sent at once, CONNECT included. */
  readonly input: Buffer
  /** What Motemq does otherwise than Mosquitto, and why. */
  readonly choice?: string
}

const A = text('a')
const three = connectBytes(4, 2, text('habit'))
const old = connectBytes(3, 2, text('habit'))
const five = connectBytes(5, 2, text('habit'))
const subscribeTo = (filter: string, qos: number, id = 1) =>
  packet(0x82, [0, id], text(filter), [qos])

function habit(name: string, ...input: Bytes[]): Habit {
  return { name, input: bytes(...input) }
}

/** One that Motemq answers in its own way. */
function ours(choice: string, name: string, ...input: Bytes[]): Habit {
  return { name, input: bytes(...input), choice }
}

export const CONNECTS: readonly Habit[] = [
  habit('3.1: a client id of 24 characters', connectBytes(3, 2, text('x'.repeat(24)))),
  habit('3.1.1: a client id of 200 characters', connectBytes(4, 2, text('x'.repeat(200)))),
  habit('a client id with blanks, slashes and wildcards', connectBytes(4, 2, text('my device/+#'))),
  habit('3.1.1: an empty client id with clean session', connectBytes(4, 2, text(''))),
  habit('3.1.1: an empty client id without clean session', connectBytes(4, 0, text(''))),
  habit('3.1: an empty client id', connectBytes(3, 2, text(''))),
  habit('3.1: the user name flag without a user name', connectBytes(3, 0x82, text('habit'))),
  habit('3.1: a password without a user name', connectBytes(3, 0x42, text('habit'), text('pw'))),
  habit('3.1.1: a password without a user name', connectBytes(4, 0x42, text('habit'), text('pw'))),
  habit(
    'a user name and a password that nobody asked for',
    connectBytes(4, 0xc2, text('habit'), text('u'), text('p'))
  ),
  habit('empty user name and password', connectBytes(4, 0xc2, text('habit'), text(''), text(''))),
  ours(
    'closed without the CONNACK 0x01: the name is no name of level 4',
    'the name MQIsdp with level 4',
    connectAs('MQIsdp', 4, 2, text('habit'))
  ),
  habit('the name MQTT with level 3', connectAs('MQTT', 3, 2, text('habit'))),
  habit('the bridge bit in the level', connectAs('MQTT', 0x84, 2, text('habit'))),
  habit('a byte behind the payload', connectBytes(4, 2, text('habit'), '00')),
  habit('a will QoS without a will', connectBytes(4, 0x0a, text('habit'))),
  habit('an empty will', connectBytes(4, 6, text('habit'), text('will'), text(''))),
  habit('a will with an empty topic', connectBytes(4, 6, text('habit'), text(''), text('x'))),
  habit('the reserved flag in version 3.1', connectBytes(3, 3, text('habit'))),
  habit('the reserved flag in version 3.1.1', connectBytes(4, 3, text('habit'))),
  habit('flags in the first byte of CONNECT', bytes([0x12], three.subarray(1))),
  habit('3.1: flags in the first byte of CONNECT', bytes([0x1a], old.subarray(1))),
  ours(
    'closed: a length has one form only',
    'a Remaining Length in two bytes for one',
    bytes([0x10, three[1]! | 0x80, 0], three.subarray(2))
  ),
  habit('CONNECT a second time', three, three)
]

export const PACKETS: readonly Habit[] = [
  habit(
    'SUBSCRIBE and PUBLISH sent before the CONNACK came',
    three,
    subscribeTo('a', 0),
    packet(0x30, A, 'ff')
  ),
  habit('DUP in the first PUBLISH of QoS 1', three, packet(0x3a, A, '00 01')),
  habit('DUP in the first PUBLISH of QoS 2', three, packet(0x3c, A, '00 01')),
  ours(
    'closed [MQTT-3.3.1-2]; in version 3.1, which does not forbid it, taken',
    'DUP in a PUBLISH of QoS 0',
    three,
    packet(0x38, A)
  ),
  habit('3.1: DUP in a PUBLISH of QoS 0', old, packet(0x38, A)),
  habit('QoS 3', three, packet(0x36, A, '00 01')),
  habit('packet identifier 0', three, packet(0x32, A, '00 00')),
  habit(
    'one identifier for every QoS 1 PUBLISH',
    three,
    packet(0x32, A, '00 01'),
    packet(0x32, A, '00 01')
  ),
  habit('PUBREL for nothing', three, '62 02 00 07'),
  habit('PUBREL twice', three, packet(0x34, A, '00 01'), '62 02 00 01 62 02 00 01'),
  habit(
    'PUBREL without its flags in version 3.1.1',
    three,
    packet(0x34, A, '00 01'),
    '60 02 00 01'
  ),
  habit('PUBREL without its flags in version 3.1', old, packet(0x34, A, '00 01'), '60 02 00 01'),
  habit('PUBREL with DUP in version 3.1', old, packet(0x34, A, '00 01'), '6a 02 00 01'),
  habit('QoS 2 again before its PUBREL', three, packet(0x34, A, '00 01'), packet(0x3c, A, '00 01')),
  habit('QoS 2 again without DUP', three, packet(0x34, A, '00 01'), packet(0x34, A, '00 01')),
  habit('PUBACK for nothing', three, '40 02 00 09'),
  habit('PUBREC for nothing', three, '50 02 00 09'),
  habit('PUBCOMP for nothing', three, '70 02 00 09'),
  ours(
    'closed [MQTT-2.2.2-2]; in version 3.1 taken',
    'acknowledgements with flags',
    three,
    '42 02 00 09'
  ),
  habit('3.1: acknowledgements with flags', old, '42 02 00 09 58 02 00 09'),
  habit('3.1: PINGREQ with flags', old, 'c2 00'),
  habit('3.1: DISCONNECT with flags', old, 'e2 00'),
  habit('PUBACK with packet identifier 0', three, '40 02 00 00'),
  habit(
    'SUBSCRIBE without its flags in version 3.1.1',
    three,
    bytes([0x80], subscribeTo('a', 0).subarray(1))
  ),
  habit(
    'SUBSCRIBE without its flags in version 3.1',
    old,
    bytes([0x80], subscribeTo('a', 0).subarray(1))
  ),
  habit('SUBSCRIBE with DUP in version 3.1', old, bytes([0x8a], subscribeTo('a', 0).subarray(1))),
  habit(
    'SUBSCRIBE with DUP in version 3.1.1',
    three,
    bytes([0x8a], subscribeTo('a', 0).subarray(1))
  ),
  habit('SUBSCRIBE with packet identifier 0', three, subscribeTo('a', 0, 0)),
  habit(
    'SUBSCRIBE to the same filter again and again',
    three,
    subscribeTo('a', 0),
    subscribeTo('a', 0),
    subscribeTo('a', 1)
  ),
  habit("SUBSCRIBE with version 5's options in version 3.1.1", three, subscribeTo('a', 0x2c)),
  habit('SUBSCRIBE with QoS 3', three, subscribeTo('a', 3)),
  habit('SUBSCRIBE without filters', three, '82 02 00 01'),
  ours(
    'a SUBACK with 0x80, and the connection goes on',
    'SUBSCRIBE to a#',
    three,
    subscribeTo('a#', 0)
  ),
  habit('3.1: SUBSCRIBE to a#', old, subscribeTo('a#', 0)),
  ours(
    'a SUBACK with 0x80, and the connection goes on',
    'SUBSCRIBE to an empty filter',
    three,
    subscribeTo('', 0)
  ),
  habit(
    'UNSUBSCRIBE without its flags in version 3.1.1',
    three,
    bytes([0xa0], packet(0xa2, '00 01', A).subarray(1))
  ),
  habit(
    'UNSUBSCRIBE without its flags in version 3.1',
    old,
    bytes([0xa0], packet(0xa2, '00 01', A).subarray(1))
  ),
  habit('UNSUBSCRIBE from what was not subscribed', three, packet(0xa2, '00 01', text('never'))),
  habit('UNSUBSCRIBE without filters', three, 'a2 02 00 01'),
  habit('an empty topic', three, packet(0x30, text(''))),
  habit('a wildcard in a topic', three, packet(0x30, text('a/+'))),
  habit('invalid UTF-8 in a topic', three, packet(0x30, text(bytes('61 e9')))),
  habit('U+0000 at the end of a topic', three, packet(0x30, text('a\0'))),
  habit('U+0000 at the end of a filter', three, subscribeTo('a\0', 0)),
  ours(
    'taken: the specification only advises against it',
    'a control character in a topic',
    three,
    packet(0x30, text('a\u0001'))
  ),
  habit('a PUBLISH to $SYS', three, packet(0x32, text('$SYS/x'), '00 01')),
  habit('a retained PUBLISH without payload for nothing', three, packet(0x31, text('none'))),
  ours(
    'closed: a length has one form only',
    'a Remaining Length in two bytes for one',
    three,
    '30 83 00 00 01 61'
  ),
  ours('closed [MQTT-2.2.2-2]; in version 3.1 taken', 'PINGREQ with flags', three, 'c2 00'),
  ours('closed: PINGREQ has no body', 'PINGREQ with a byte', three, 'c0 01 00'),
  ours('closed: only a server sends it', 'PINGRESP', three, 'd0 00'),
  habit('DISCONNECT with flags', three, 'e2 00'),
  habit('DISCONNECT with a byte', three, 'e0 01 00'),
  ours(
    'the PUBCOMP says 0x92, and the CONNACK tells our own limits',
    'version 5: PUBREL for nothing',
    five,
    '62 02 00 07'
  ),
  ours(
    'closed with 0x81 as well; the CONNACK tells our own limits',
    'version 5: a PUBLISH in the form of 3.1.1',
    five,
    packet(0x30, A, '78')
  )
]

/** What comes back until the broker closes, or answers the ping behind it; hexadecimal. */
export async function behaviour(port: number, input: Buffer): Promise<string[]> {
  const raw = await RawMqtt.dial(port)
  const seen: string[] = []
  raw.send(input, 'c0 00')
  for (;;) {
    const found = await raw.next().catch(() => null)
    if (found === null) seen.push('closed')
    else seen.push(found.toString('hex'))
    if (found === null || seen.at(-1) === 'd000') {
      raw.destroy()
      return seen
    }
  }
}
