/** Bytes on the wire beside Mosquitto: counts only, so neither clock nor load matters. */
import { expect, it } from 'vitest'
import { requireProgram } from '../support/require.ts'
import { run } from '../support/run.ts'

interface Row {
  readonly name: string
  readonly motemq: number
  /** Mosquitto with our limit on a packet, which a version 5 CONNACK must tell. */
  readonly mosquitto: number
}

requireProgram('mosquitto')('bytes on the wire', () => {
  it("are in no case more than Mosquitto's", async () => {
    const rows = JSON.parse(
      await run(process.execPath, ['test/bench/wire.mjs', '--json'])
    ) as readonly Row[]
    const above = rows.filter(row => row.motemq > row.mosquitto)
    // Mosquitto 2.0 does not send the DISCONNECT that the specification demands [MQTT-3.1.4-3].
    expect(above.map(row => row.name)).toEqual(['5 fresh, ended by a takeover'])
    expect(rows).toHaveLength(51)
  })
})
