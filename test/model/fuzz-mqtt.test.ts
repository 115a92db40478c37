/** MQTT clients of all versions that send what they like: see test/support/fuzz-run.ts for what must hold. */
import { describe } from 'vitest'
import { fuzzTests } from '../support/fuzz-tests.ts'

describe('a broker with MQTT clients that send anything', () => {
  // CONNACK, PUBLISH, the acknowledgements, SUBACK, UNSUBACK, PINGRESP, DISCONNECT.
  fuzzTests('mqtt', ['2', '3', '4', '5', '6', '7', '9', '11', '13', '14'])
})
