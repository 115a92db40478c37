/** What the front-end tells its clients, beside the limits that all front-ends share. */
/** PUBLISHes larger than this are not sent to those it names; versions 3.1 and 3.1.1 only. */
export interface PacketLimit {
  /** Of a client, or the port of a listener. */
  readonly kind: 'client' | 'listener'
  /** A client id, where `*` stands for any characters, or a port. */
  readonly pattern: string
  readonly bytesMax: number
}

export interface MqttOptions {
  /** Response Information of those who ask for it, `%c` is the client id; '' = none (MQTT 5 §3.2.2.3.15). */
  readonly responseInformation: string
  /** Where clients are sent while this broker drains; '' = nowhere in particular (MQTT 5 §4.11). */
  readonly serverReference: string
  readonly packetLimits: readonly PacketLimit[]
}

export const DEFAULT_MQTT_OPTIONS: MqttOptions = {
  responseInformation: '',
  serverReference: '',
  packetLimits: []
}

/** The Response Information of a client; '' when there is none, or its id is no level of a topic. */
export function responseInformationOf(options: MqttOptions, clientId: string): string {
  const { responseInformation } = options
  if (!responseInformation.includes('%c')) return responseInformation
  return /^[^/+#\0]*$/.test(clientId) ? responseInformation.replaceAll('%c', () => clientId) : ''
}

const UNLIMITED = 0x7fffffff

/** The largest PUBLISH for a client of 3.1 or 3.1.1, which cannot say it itself: the least that holds for it. */
export function packetBytesMaxOf(
  options: MqttOptions,
  clientId: string,
  { localPort }: { readonly localPort?: number }
): number {
  let least = UNLIMITED
  for (const { kind, pattern, bytesMax } of options.packetLimits) {
    const isMeant =
      kind === 'client' ? isLike(clientId, pattern) : String(localPort ?? '') === pattern
    if (isMeant) least = Math.min(least, bytesMax)
  }
  return least
}

/** Whether `text` is `pattern`, where `*` stands for any characters: in linear time. */
function isLike(text: string, pattern: string): boolean {
  const parts = pattern.split('*')
  if (parts.length === 1) return text === pattern
  const first = parts[0]!
  const last = parts.at(-1)!
  if (!text.startsWith(first) || !text.endsWith(last)) return false
  let at = first.length
  const end = text.length - last.length
  for (const part of parts.slice(1, -1)) {
    const found = text.indexOf(part, at)
    if (found < 0 || found + part.length > end) return false
    at = found + part.length
  }
  return at <= end
}
