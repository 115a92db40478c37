/** Processor time and memory of another process, from Linux's /proc. */
import { readFileSync } from 'node:fs'
import { CommandError, EXIT_USAGE } from './exit.ts'

/** The kernel counts processor time in hundredths of a second for programs (USER_HZ), whatever its own clock is. */
const TICK_US = 10_000
const KIB = 1024

export interface ProcessUsage {
  readonly cpuUs: number
  readonly residentBytes: number
}

/** All its threads. @throws CommandError when there is no such process */
export function readProcessUsage(pid: number): ProcessUsage {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name in brackets may have blanks and brackets itself.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const resident = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? '0'
    return {
      cpuUs: (Number(fields[11]) + Number(fields[12])) * TICK_US,
      residentBytes: Number(resident) * KIB
    }
  } catch (error) {
    throw new CommandError(`--pid ${pid}: ${(error as Error).message}`, EXIT_USAGE)
  }
}
