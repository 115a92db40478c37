/** What `npm pack` makes of the project, and what an installation of it brings. */
import { spawnSync } from 'node:child_process'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { Checkout } from './checkout.ts'
import { requiresAll } from './require.ts'

/** What goes into the package without being needed for a build. */
const PACKED = ['LICENSE', 'README.md', 'CHANGELOG.md']
const NPM_TIMEOUT_MS = 240_000
const QUIET = ['--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline']

/** Runs npm without what the npm that runs the tests has set. */
function npm(cwd: string, ...words: readonly string[]): { status: number | null; output: string } {
  const env = Object.entries(process.env).filter(([name]) => !/^(MOTEMQ|npm)_/.test(name))
  const { status, stdout, stderr } = spawnSync('npm', words, {
    cwd,
    env: Object.fromEntries(env),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: NPM_TIMEOUT_MS
  })
  return { status, output: `${stdout}${stderr}` }
}

function mustRun(cwd: string, ...words: readonly string[]): void {
  const { status, output } = npm(cwd, ...words)
  if (status !== 0) throw new Error(`npm ${words.join(' ')} ended with ${status}:\n${output}`)
}

/** Whether packages can be had. Throws where that is required. */
export function hasRegistry(): boolean {
  const asked = npm(tmpdir(), 'view', 'commander@14.0.3', 'version', '--fetch-retries=0')
  if (asked.status !== 0 && requiresAll) {
    throw new Error(`an npm registry is required:\n${asked.output}`)
  }
  return asked.status === 0
}

/** Packs a copy of the project, built there, into `target`; the path of the tarball. */
export function packInto(target: string): string {
  const copy = new Checkout(PACKED)
  try {
    mustRun(copy.folder, 'pack', '--loglevel=error', '--pack-destination', target)
  } finally {
    copy.remove()
  }
  const name = readdirSync(target).find(file => file.endsWith('.tgz'))
  if (name === undefined) throw new Error('npm pack made no tarball')
  return join(target, name)
}

/** A folder with packages in its `node_modules`; none of their scripts has run. */
export class Installation {
  /** Made by the first installation: a suite that is skipped leaves nothing behind. */
  folder = ''

  /** `packages`: tarballs or names. `flags`: more of npm's. */
  install(packages: readonly string[], flags: readonly string[] = []): void {
    if (this.folder === '') this.folder = mkdtempSync(join(tmpdir(), 'motemq-installed-'))
    const words = ['--ignore-scripts', ...QUIET, ...flags, '--prefix', this.folder, ...packages]
    mustRun(this.folder, 'install', ...words)
  }

  path(...parts: readonly string[]): string {
    return join(this.folder, 'node_modules', ...parts)
  }

  /** Every file of every package. */
  files(): string[] {
    return readdirSync(this.path(), { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name))
      .sort()
  }

  relative(file: string): string {
    return relative(this.path(), file)
  }

  remove(): void {
    if (this.folder !== '') rmSync(this.folder, { recursive: true, force: true })
  }
}

export function bytesOf(files: readonly string[]): number {
  return files.reduce((sum, file) => sum + statSync(file).size, 0)
}

const NATIVE_NAME = /\.(node|so(\.\d+)*|a|o|lib|dylib|dll|exe)$/i
/** How compiled files begin, in hexadecimal. */
const NATIVE_HEADS = [
  '7f454c46', // ELF
  ...['feedface', 'feedfacf', 'cefaedfe', 'cffaedfe', 'cafebabe', 'bebafeca'], // Mach-O
  '4d5a', // PE
  '213c617263683e0a' // an archive of ar
]

/** Whether a file holds instructions of some processor, by its name or its first bytes. */
export function isNative(file: string): boolean {
  if (NATIVE_NAME.test(file)) return true
  const head = Buffer.alloc(8)
  const descriptor = openSync(file, 'r')
  try {
    readSync(descriptor, head, 0, head.length, 0)
  } finally {
    closeSync(descriptor)
  }
  const hex = head.toString('hex')
  return NATIVE_HEADS.some(start => hex.startsWith(start))
}

/** What npm would run when it installs a package, from its folder's `package.json`. */
export function installScriptsOf(manifest: string): string[] {
  const { scripts = {} } = JSON.parse(readFileSync(manifest, 'utf8')) as {
    scripts?: Record<string, string>
  }
  return ['preinstall', 'install', 'postinstall'].filter(name => scripts[name] !== undefined)
}
