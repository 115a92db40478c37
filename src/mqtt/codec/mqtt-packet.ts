/**
 * mqtt-packet, loaded with the first packet that needs it: with the streams that it brings along it is what a broker
 * without MQTT clients can do without (0.8 MB). At once, since a packet is answered before the next one is read.
 */
import { createRequire } from 'node:module'

type MqttPacket = typeof import('mqtt-packet')

let loaded: MqttPacket | null = null

export function mqttPacket(): MqttPacket {
  loaded ??= load()
  return loaded
}

function load(): MqttPacket {
  const found = createRequire(import.meta.url)('mqtt-packet') as MqttPacket
  // Else it keeps a Buffer for each of the 65,536 numbers: 6 MB, for packets that are rare here.
  ;(found.writeToStream as unknown as { cacheNumbers: boolean }).cacheNumbers = false
  return found
}
