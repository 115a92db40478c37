/**
 * An ext4 on a loop device over a file in memory, as a memory card would be mounted, and what was written to it: the
 * kernel's counters of the device, and each request, told apart by where it goes (the broker's files, ext4's journal,
 * anything else of ext4). Linux, root.
 */
import { execFileSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

const SECTOR_BYTES = 512
const BLOCK_SECTORS = 8
const IMAGE_BYTES = 1024 ** 3
const TRACING = '/sys/kernel/tracing'
const ISSUED = /block_rq_issue: \d+,\d+ (\w+) (\d+) \(.*?\) (\d+) \+ (\d+)/

const run = (program, ...args) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })

/** Ranges of sectors out of debugfs's list of extents: `(0-4095):32768-36863, (4096):900`. */
function sectorRanges(listing) {
  const ranges = []
  const text = listing.slice(listing.indexOf('EXTENTS:'))
  for (const [, from, to] of text.matchAll(/\([\d-]+\):(\d+)(?:-(\d+))?/g)) {
    ranges.push([Number(from) * BLOCK_SECTORS, (Number(to ?? from) + 1) * BLOCK_SECTORS])
  }
  return ranges
}

const isWithin = (ranges, sector) => ranges.some(([from, to]) => sector >= from && sector < to)

/** What the kernel counted: fields 7 (sectors written), 5 (writes completed) and 16 (flushes) of `stat`. */
function counters(device) {
  const fields = readFileSync(`/sys/block/${basename(device)}/stat`, 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number)
  return { bytes: fields[6] * SECTOR_BYTES, writes: fields[4], syncs: fields[15] }
}

export class Device {
  /** The folder at which it is mounted. */
  folder = ''
  #image = ''
  #device = ''
  #trace = ''
  #journal = []
  #before = { bytes: 0, writes: 0, syncs: 0 }

  /** Makes, formats and mounts it. `options`: more mount options, `lazytime` for instance. */
  open(options = '') {
    const memory = readFileSync('/proc/mounts', 'utf8').includes(' /dev/shm tmpfs ')
      ? '/dev/shm'
      : tmpdir()
    const scratch = mkdtempSync(join(memory, 'motemq-wear-'))
    this.#image = join(scratch, 'image')
    this.folder = join(scratch, 'mount')
    mkdirSync(this.folder)
    run('truncate', '-s', String(IMAGE_BYTES), this.#image)
    this.#device = run('losetup', '-f', '--show', this.#image).trim()
    run(
      'mkfs.ext4',
      '-q',
      '-b',
      '4096',
      '-E',
      'lazy_itable_init=0,lazy_journal_init=0',
      this.#device
    )
    const all = `noatime,data=ordered,commit=5${options === '' ? '' : `,${options}`}`
    run('mount', '-t', 'ext4', '-o', all, this.#device, this.folder)
    this.#journal = sectorRanges(run('debugfs', '-R', 'stat <8>', this.#device))
    return this
  }

  /** Everything so far is taken to the device and forgotten. */
  startCounting() {
    run('sync', '-f', this.folder)
    this.#startTrace()
    this.#before = counters(this.#device)
  }

  /** Bytes, writes and syncs since then; bytes of the broker's files, of ext4's journal, of the rest of ext4. */
  stopCounting(files) {
    const after = counters(this.#device)
    const requests = readFileSync(join(this.#trace, 'trace'), 'utf8')
    run('sync', '-f', this.folder) // debugfs reads the device
    const own = files.flatMap(file =>
      sectorRanges(run('debugfs', '-R', `stat ${file}`, this.#device))
    )
    const split = { data: 0, journal: 0, rest: 0 }
    for (const line of requests.split('\n')) {
      const [, kind = '', , sector, sectors] = ISSUED.exec(line) ?? []
      if (!kind.includes('W')) continue
      const bytes = Number(sectors) * SECTOR_BYTES
      if (isWithin(own, Number(sector))) split.data += bytes
      else if (isWithin(this.#journal, Number(sector))) split.journal += bytes
      else split.rest += bytes
    }
    const { bytes, writes, syncs } = this.#before
    return {
      bytes: after.bytes - bytes,
      writes: after.writes - writes,
      syncs: after.syncs - syncs,
      ...split
    }
  }

  /** The files below a folder of the device, as debugfs names them. */
  files(folder) {
    return readdirSync(join(this.folder, folder)).map(name => join('/', folder, name))
  }

  close() {
    if (this.#trace !== '') rmdirSync(this.#trace)
    if (this.#device !== '') {
      try {
        run('umount', this.folder)
      } finally {
        run('losetup', '-d', this.#device)
      }
    }
    rmSync(join(this.#image, '..'), { recursive: true, force: true })
  }

  #startTrace() {
    if (this.#trace === '') {
      if (!readdirSync(TRACING).includes('instances'))
        run('mount', '-t', 'tracefs', 'none', TRACING)
      this.#trace = join(TRACING, 'instances', `motemq-wear-${basename(this.#device)}`)
      mkdirSync(this.#trace)
      const [major, minor] = readFileSync(`/sys/block/${basename(this.#device)}/dev`, 'utf8').split(
        ':'
      )
      const event = join(this.#trace, 'events/block/block_rq_issue')
      writeFileSync(join(this.#trace, 'buffer_size_kb'), '8192')
      writeFileSync(join(event, 'filter'), `dev == ${Number(major) * 2 ** 20 + Number(minor)}`)
      writeFileSync(join(event, 'enable'), '1')
    }
    writeFileSync(join(this.#trace, 'trace'), '')
  }
}
