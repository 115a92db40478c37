/** The topics of `$SYS/broker` that are numbers, as Mosquitto 2 names them and means them. */
import { type Counters, PAYLOAD_RECEIVED, PAYLOAD_SENT, sumOf } from './counters.ts'
import type { BrokerStats } from './stats.ts'
import { LOAD_MINUTES, LOAD_NAMES, type SysLoad } from './sys-load.ts'

export interface SysValue {
  readonly topic: string
  readonly payload: string
}

export interface SysSource {
  readonly stats: BrokerStats
  readonly counters: Counters
  readonly load: SysLoad
  readonly version: string
  readonly uptimeSeconds: number
  readonly heapBytes: number
  readonly heapBytesMax: number
  /** Most MQTT clients that were connected at once. */
  readonly clientsMax: number
}

export function sysValues(source: SysSource): SysValue[] {
  const { stats, counters, load } = source
  const mqtt = stats.protocols[0]!
  const values: SysValue[] = []
  const say = (name: string, value: string | number): void => {
    values.push({ topic: `$SYS/broker/${name}`, payload: String(value) })
  }
  say('version', `motemq version ${source.version}`)
  say('uptime', `${source.uptimeSeconds} seconds`)
  say('clients/total', mqtt.connections + stats.sessionsOffline)
  say('clients/connected', mqtt.connections)
  say('clients/active', mqtt.connections)
  say('clients/disconnected', stats.sessionsOffline)
  say('clients/inactive', stats.sessionsOffline)
  say('clients/maximum', source.clientsMax)
  say('clients/expired', counters.sessionsExpired)
  say('connections/socket/count', stats.connectionsOpen)
  say('bytes/received', stats.bytesInTotal)
  say('bytes/sent', stats.bytesOutTotal)
  say('messages/received', counters.mqttPacketsReceived)
  say('messages/sent', counters.mqttPacketsSent)
  say('publish/messages/received', sumOf(mqtt.receivedTotal))
  say('publish/messages/sent', sumOf(mqtt.sentTotal))
  say('publish/messages/dropped', counters.droppedByLimits)
  say('publish/bytes/received', counters.mqttPayloadBytes[PAYLOAD_RECEIVED]!)
  say('publish/bytes/sent', counters.mqttPayloadBytes[PAYLOAD_SENT]!)
  const stored = stats.retained + stats.sessionMessages
  say('messages/stored', stored)
  say('store/messages/count', stored)
  say('store/messages/bytes', stats.retainedBytes + stats.sessionBytes)
  say('retained messages/count', stats.retained)
  say('subscriptions/count', stats.subscriptions)
  say('shared_subscriptions/count', stats.sharedSubscriptions)
  say('heap/current', source.heapBytes)
  say('heap/maximum', source.heapBytesMax)
  for (let i = 0; i < LOAD_NAMES.length; i++) {
    for (let j = 0; j < LOAD_MINUTES.length; j++) {
      say(`load/${LOAD_NAMES[i]}/${LOAD_MINUTES[j]}min`, load.averages[i]![j]!.toFixed(2))
    }
  }
  return values
}
