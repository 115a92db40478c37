/** The packets that we send and that do not make the traffic, through mqtt-packet. */
import type { IConnackPacket } from 'mqtt-packet'
import { mqttPacket } from './mqtt-packet.ts'
import { DISCONNECT } from './packet-types.ts'

export type ConnackProperties = NonNullable<IConnackPacket['properties']>

/** Bytes of a CONNACK. `code`: reason code, for 3.1 and 3.1.1 the return code. */
export function writeConnack(
  version: number,
  sessionPresent: boolean,
  code: number,
  properties: ConnackProperties = {}
): Buffer {
  return mqttPacket().generate(
    { cmd: 'connack', sessionPresent, returnCode: code, reasonCode: code, properties },
    { protocolVersion: version }
  )
}

/** Bytes of a SUBACK; `granted`: reason codes, for 3.1 and 3.1.1 QoS or 0x80. `text`: reason string, '' = none. */
export function writeSuback(
  version: number,
  messageId: number,
  granted: number[],
  text = ''
): Buffer {
  const properties = text === '' ? {} : { reasonString: text }
  return mqttPacket().generate(
    { cmd: 'suback', messageId, granted, properties },
    { protocolVersion: version }
  )
}

/** Bytes of an UNSUBACK; 3.1 and 3.1.1 carry no codes. */
export function writeUnsuback(version: number, messageId: number, granted: number[]): Buffer {
  return mqttPacket().generate(
    { cmd: 'unsuback', messageId, granted },
    { protocolVersion: version }
  )
}

/** Bytes of an AUTH (§3.15). */
export function writeAuth(reasonCode: number, method: string, data: Buffer): Buffer {
  const properties = { authenticationMethod: method, authenticationData: data }
  return mqttPacket().generate({ cmd: 'auth', reasonCode, properties }, { protocolVersion: 5 })
}

/** Bytes of a DISCONNECT: MQTT 5 only. Without properties there is no length of them either (§3.14.2.2.1). */
export function writeDisconnect(reasonCode: number, text = '', serverReference = ''): Buffer {
  if (text === '' && serverReference === '') return Buffer.from([DISCONNECT << 4, 1, reasonCode])
  const properties = {
    ...(text === '' ? {} : { reasonString: text }),
    ...(serverReference === '' ? {} : { serverReference })
  }
  return mqttPacket().generate(
    { cmd: 'disconnect', reasonCode, properties },
    { protocolVersion: 5 }
  )
}

/** Bytes of a PUBACK or PUBREC that refuses, with its reason string: MQTT 5 only. */
export function writeRefusal(
  cmd: 'puback' | 'pubrec',
  messageId: number,
  reasonCode: number,
  text: string
): Buffer {
  const properties = { reasonString: text }
  return mqttPacket().generate({ cmd, messageId, reasonCode, properties }, { protocolVersion: 5 })
}
