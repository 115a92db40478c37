/**
 * What a listener's handshakes are made with, kept as its files are. A change is noticed by the kernel's word on their
 * folders and, where that fails (network file systems, a folder that was replaced), by a look every few seconds. Files
 * are taken when they fit together; until then, as between two files of a renewal, the old ones go on. Who is
 * connected stays connected.
 */
import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { filesOf, loadTls, type TlsMaterial, type TlsSettings, TlsFilesError } from './tls-files.ts'

export interface TlsEvents {
  /** New files are used from now on. */
  onReloaded(files: readonly string[]): void
  /** The files cannot be used; the old ones go on. Told once for each sentence. */
  onRefused(mistake: string): void
  /** Something odd, or an end that comes near. */
  onWarning(warning: string): void
}

export interface TlsSourceTimes {
  readonly nowMs: () => number
  readonly pollMs: number
  readonly settleMs: number
}

const TIMES: TlsSourceTimes = { nowMs: Date.now, pollMs: 5_000, settleMs: 250 }
/** Tickets of a longer time ago are not taken: their key is thrown away, with what could be read with it. */
const TICKET_KEY_MS = 86_400_000
/** When the end of our certificate is spoken of. */
const NOTICE_DAYS = [30, 7, 1, 0]
const DAY_MS = 86_400_000

export class TlsSource {
  readonly settings: TlsSettings
  current: TlsMaterial
  reloads = 0
  failures = 0
  readonly #files: readonly string[]
  readonly #events: TlsEvents
  readonly #times: TlsSourceTimes
  readonly #watchers: FSWatcher[] = []
  readonly #told = new Set<string>()
  #poll: NodeJS.Timeout | null = null
  #settle: NodeJS.Timeout | null = null
  #stamp: string
  #madeMs: number
  #noticeDays: number
  #isLooking = false
  #isClosed = false

  /** Use `openTlsSource`. */
  constructor(
    settings: TlsSettings,
    material: TlsMaterial,
    stamp: string,
    events: TlsEvents,
    times: TlsSourceTimes
  ) {
    this.settings = settings
    this.current = material
    this.#files = filesOf(settings)
    this.#events = events
    this.#times = times
    this.#stamp = stamp
    this.#madeMs = times.nowMs()
    this.#noticeDays = this.#noticeNow()
    for (const warning of material.warnings) this.#warn(warning)
    this.#watchFolders()
    this.#poll = setInterval(() => void this.#look(), times.pollMs)
    this.#poll.unref()
  }

  /** Reads the files again, changed or not; false when they cannot be used. */
  reload(): boolean {
    let material: TlsMaterial
    try {
      material = loadTls(this.settings, this.#times.nowMs())
    } catch (error) {
      if (!(error instanceof TlsFilesError)) throw error
      this.failures++
      for (const mistake of error.mistakes)
        this.#tell(mistake, () => this.#events.onRefused(mistake))
      return false
    }
    const isSame = material.digest === this.current.digest
    const isOld = this.#times.nowMs() - this.#madeMs >= TICKET_KEY_MS
    if (isSame && !isOld) return true
    // A new context has new ticket keys: nobody whom a new list of revoked ones names comes back with an old ticket.
    this.current = material
    this.#madeMs = this.#times.nowMs()
    if (isSame) return true
    this.reloads++
    this.#told.clear()
    this.#noticeDays = this.#noticeNow()
    this.#events.onReloaded(this.#files)
    for (const warning of material.warnings) this.#warn(warning)
    return true
  }

  /** Idempotent. */
  close(): void {
    this.#isClosed = true
    if (this.#poll !== null) clearInterval(this.#poll)
    if (this.#settle !== null) clearTimeout(this.#settle)
    for (const watcher of this.#watchers) watcher.close()
    this.#watchers.length = 0
  }

  #watchFolders(): void {
    // The folder, not the file: files are replaced by renaming, in Kubernetes by turning a link beside them.
    for (const folder of new Set(this.#files.map(file => dirname(file)))) {
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#lookSoon())
        watcher.on('error', () => watcher.close())
        this.#watchers.push(watcher)
      } catch (error) {
        // No such folder, or no watches left: the look every few seconds remains.
        if ((error as NodeJS.ErrnoException).code === undefined) throw error
      }
    }
  }

  #lookSoon(): void {
    if (this.#settle !== null || this.#isClosed) return
    this.#settle = setTimeout(() => {
      this.#settle = null
      void this.#look()
    }, this.#times.settleMs)
    this.#settle.unref()
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return
    this.#isLooking = true
    try {
      const stamp = await stampOf(this.#files)
      if (this.#isClosed) return
      const isOld = this.#times.nowMs() - this.#madeMs >= TICKET_KEY_MS
      if (stamp !== this.#stamp || isOld) {
        this.reload()
        this.#stamp = stamp
        // Written while it was read: once more.
        if ((await stampOf(this.#files)) !== stamp) this.#lookSoon()
      }
      this.#noticeEnd()
    } finally {
      this.#isLooking = false
    }
  }

  #noticeNow(): number {
    const left = (this.current.expiresMs - this.#times.nowMs()) / DAY_MS
    return NOTICE_DAYS.filter(days => left <= days).at(-1) ?? Number.POSITIVE_INFINITY
  }

  #noticeEnd(): void {
    const days = this.#noticeNow()
    if (days >= this.#noticeDays) return
    this.#noticeDays = days
    const when = new Date(this.current.expiresMs).toUTCString()
    const { cert } = this.settings
    this.#events.onWarning(
      days === 0
        ? `${cert} has expired, on ${when}: clients will refuse it`
        : `${cert} expires on ${when}`
    )
  }

  #warn(warning: string): void {
    this.#tell(warning, () => this.#events.onWarning(warning))
  }

  #tell(sentence: string, say: () => void): void {
    if (this.#told.has(sentence)) return
    this.#told.add(sentence)
    say()
  }
}

/** @throws TlsFilesError */
export async function openTlsSource(
  settings: TlsSettings,
  events: TlsEvents,
  times: Partial<TlsSourceTimes> = {}
): Promise<TlsSource> {
  const all = { ...TIMES, ...times }
  const stamp = await stampOf(filesOf(settings))
  return new TlsSource(settings, loadTls(settings, all.nowMs()), stamp, events, all)
}

/** What changes when any of the files does, or what a link leads to. */
async function stampOf(files: readonly string[]): Promise<string> {
  const parts = await Promise.all(
    files.map(async file => {
      try {
        const { ino, dev, size, mtimeNs, ctimeNs } = await stat(file, { bigint: true })
        return `${dev} ${ino} ${size} ${mtimeNs} ${ctimeNs}`
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        if (code === undefined) throw error
        return code
      }
    })
  )
  return parts.join('\n')
}
