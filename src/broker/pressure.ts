/**
 * Why publishers wait. Causes come and go independently: reading goes on when the last one is gone, and
 * AMQP clients are unblocked when neither the disk nor the memory is short.
 */
import type { Broker } from './broker.ts'

/** Too much is on its way to the disk. */
export const PRESSURE_DISK = 1
/** The process holds too much memory. */
export const PRESSURE_MEMORY = 2

/** A cause came (`raised`) or went. */
export function setPressure(broker: Broker, cause: number, raised: boolean): void {
  broker.pressure = raised ? broker.pressure | cause : broker.pressure & ~cause
  const isPaused = broker.pressure !== 0
  if (isPaused === broker.isPaused) return
  broker.isPaused = isPaused
  for (const publisher of broker.publishers) {
    if (isPaused) publisher.onPause()
    else publisher.onResume()
  }
}

export function setDiskAlarm(broker: Broker, raised: boolean): void {
  const was = hasAlarm(broker)
  broker.diskAlarm = raised
  broker.judge()
  tellAlarm(broker, was)
}

/** While it is raised new connections are refused and nobody publishes; all else goes on. */
export function setMemoryAlarm(broker: Broker, raised: boolean): void {
  const was = hasAlarm(broker)
  broker.memoryAlarm = raised
  // Told first: when it is over, `unblocked` goes out before what was held comes in.
  tellAlarm(broker, was)
  setPressure(broker, PRESSURE_MEMORY, raised)
}

function hasAlarm(broker: Broker): boolean {
  return broker.diskAlarm || broker.memoryAlarm
}

function tellAlarm(broker: Broker, was: boolean): void {
  const is = hasAlarm(broker)
  if (is === was) return
  for (const publisher of broker.publishers) publisher.onDiskAlarm(is)
}
