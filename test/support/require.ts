/**
 * Tests that need something a plain `npm install` does not bring. Where it is missing they are skipped, and the summary
 * says so in one line a program; with `MOTEMQ_TEST_REQUIRE=all` a missing program is a failure, with `none` a program
 * counts as missing even where it is installed: the quick tier, which needs nothing but Node.
 */
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { describe } from 'vitest'

/** Everything must be there, and the counts of the full tier apply. */
export const requiresAll = process.env['MOTEMQ_TEST_REQUIRE'] === 'all'
const requiresNone = process.env['MOTEMQ_TEST_REQUIRE'] === 'none'

/** Debian's Python: a `python3` earlier in the path would not see Debian's modules. */
export const PYTHON = '/usr/bin/python3'

/** The Debian package of a program, where their names differ. */
const PACKAGES: Readonly<Record<string, string>> = {
  mosquitto_pub: 'mosquitto-clients',
  mosquitto_sub: 'mosquitto-clients',
  mosquitto_rr: 'mosquitto-clients',
  mosquitto_passwd: 'mosquitto',
  'amqp-publish': 'amqp-tools',
  'amqp-consume': 'amqp-tools',
  'amqp-get': 'amqp-tools',
  'amqp-declare-queue': 'amqp-tools',
  javac: 'default-jdk-headless',
  '/usr/share/java/amqp-client.jar': 'librabbitmq-client-java',
  tc: 'iproute2',
  ip: 'iproute2',
  ps: 'procps',
  'qemu-aarch64-static': 'qemu-user-static',
  'qemu-arm-static': 'qemu-user-static',
  'qemu-s390x-static': 'qemu-user-static',
  'python3:paho.mqtt': 'python3-paho-mqtt',
  'python3:pika': 'python3-pika',
  'python3:celery': 'python3-celery',
  'python3:kombu': 'python3-kombu',
  'python3:redis': 'python3-redis'
}

export function packageOf(program: string): string {
  return PACKAGES[program] ?? program
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    // Not there or not for us: the same to a test.
    return false
  }
}

/** The program's path, or null. Looks into the `sbin` folders too. */
export function findProgram(name: string): string | null {
  if (requiresNone) return null
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  for (const folder of folders) {
    const file = join(folder, name)
    if (isExecutable(file)) return file
  }
  return null
}

/** `mosquitto_pub`, a file by its path, or a module of Debian's Python as `python3:paho.mqtt`. */
export function isAvailable(program: string): boolean {
  if (requiresNone) return false
  if (program.startsWith('/')) return existsSync(program)
  const [name = '', module] = program.split(':')
  if (module === undefined) return findProgram(name) !== null
  if (!isExecutable(PYTHON)) return false
  return spawnSync(PYTHON, ['-c', `import ${module}`], { stdio: 'ignore' }).status === 0
}

/**
 * `describe` for tests that need `program`. The name that a skipped suite gets is what the summary counts by.
 * Throws, so that the file fails, when everything is required and the program is missing.
 */
export function requireProgram(program: string): (name: string, tests: () => void) => void {
  const found = isAvailable(program)
  if (!found && requiresAll) {
    throw new Error(`${program} is required and missing: apt-get install ${packageOf(program)}`)
  }
  return (name, tests) => {
    describe.skipIf(!found)(found ? name : `${name} (needs ${program})`, tests)
  }
}
