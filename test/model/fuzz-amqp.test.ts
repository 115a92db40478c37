/** AMQP clients that send what they like: see test/support/fuzz-run.ts for what must hold. */
import { describe } from 'vitest'
import { fuzzTests } from '../support/fuzz-tests.ts'

describe('a broker with AMQP clients that send anything', () => {
  // start, tune, open-ok, close, close-ok; channel.open-ok, close, close-ok; declare-ok and bind-ok of a
  // queue; consume-ok, return, deliver, get-ok, get-empty, ack; select-ok.
  const connection = ['10.10', '10.30', '10.41', '10.50', '10.51', '20.11', '20.40', '20.41']
  const queues = ['50.11', '50.21', '60.21', '60.50', '60.60', '60.71', '60.72', '60.80', '85.11']
  fuzzTests('amqp', [...connection, ...queues])
})
