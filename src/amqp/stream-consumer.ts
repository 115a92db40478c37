/** A consumer of a stream: it has a prefetch, acknowledges, begins where `x-stream-offset` says, and is told offsets. */
import { noPrefetch, notOfStreams } from '../broker/stream-refusals.ts'
import type { Stream } from '../broker/stream.ts'
import { StreamCursor, type StreamReader, type StreamStart } from '../broker/stream-reader.ts'
import { durationMs } from '../core/duration.ts'
import { BrokerError } from '../core/errors.ts'
import { type FieldTable, type FieldValue, fieldOf, integerOf } from '../core/field-table.ts'
import type { Message } from '../core/message.ts'
import type { Queue } from '../core/queue.ts'
import { refusedByType } from '../core/queue-arguments.ts'
import type { AmqpChannel } from './channel.ts'
import { AmqpConsumer } from './consumer.ts'
import { withOffset } from './stream-offset.ts'

const ARGUMENT = 'x-stream-offset'

/** Throws what RabbitMQ refuses it for. */
export function streamConsumer(
  channel: AmqpChannel,
  queue: Queue,
  tag: string,
  values: { readonly noAck: boolean; readonly arguments: FieldTable }
): AmqpConsumer {
  if (channel.prefetchCount === 0) throw noPrefetch(queue)
  if (values.noAck) throw notOfStreams('automatic acknowledgement', queue)
  if (fieldOf(values.arguments, 'x-priority') !== null) {
    throw refusedByType('x-priority', queue.name, queue.vhost, 'stream')
  }
  const start = startOf(channel, queue, fieldOf(values.arguments, ARGUMENT))
  channel.readsStreams = true
  return new StreamConsumer(channel, queue, tag, start)
}

function startOf(channel: AmqpChannel, queue: Queue, value: FieldValue | null): StreamStart {
  if (value === null) return { from: 'next' }
  if (value.type === 'S') {
    const text = value.value
    if (text === 'first' || text === 'last' || text === 'next') return { from: text }
    const span = durationMs(text)
    if (span !== null) {
      return { from: 'time', time: channel.connection.broker.clock.wallMs() - span }
    }
    throw invalid(queue, value)
  }
  const number = integerOf(value)
  if (value.type === 'T') return { from: 'time', time: Number(value.value) * 1_000 }
  if (number !== null) return { from: 'offset', offset: number }
  if (value.type === 'l') return { from: 'offset', offset: Number(value.value) }
  throw invalid(queue, value)
}

function invalid(queue: Queue, value: FieldValue): BrokerError {
  const { name, vhost } = queue
  const what = value.type === 'S' ? `{longstr,<<"${value.value}">>}` : value.type
  return new BrokerError(
    'argumentInvalid',
    `invalid arg '${ARGUMENT}' for queue '${name}' in vhost '${vhost}': {invalid_stream_offset_arg,${what}}`,
    { kind: 'queue', argument: ARGUMENT, name, vhost }
  )
}

class StreamConsumer extends AmqpConsumer implements StreamReader {
  readonly cursor: StreamCursor

  constructor(channel: AmqpChannel, queue: Queue, tag: string, start: StreamStart) {
    super(channel, queue, tag, false)
    this.cursor = new StreamCursor(start)
  }

  override start(): void {
    if (this.isCancelled || this.isStarted) return
    this.isStarted = true
    streamOf(this.queue).begin(this)
  }

  override onCredit(): void {
    streamOf(this.queue).pump()
  }

  override deliver(message: Message, queue: Queue, sequence: number, flags: number): void {
    const { broker } = this.channel.connection
    super.deliver(withOffset(broker, message, sequence - 1), queue, sequence, flags)
  }
}

function streamOf(queue: Queue): Stream {
  return queue.stream as Stream
}
