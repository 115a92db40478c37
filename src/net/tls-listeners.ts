/** TLS of all listeners: the files of each, read once for all that name the same, and the stage that they get. */
import type { Stage } from './arrival.ts'
import { alpnOf, Handshakes } from './handshakes.ts'
import { type TlsSettings, TlsFilesError } from './tls-files.ts'
import { openTlsSource, type TlsEvents, type TlsSource } from './tls-source.ts'

export interface TlsListener {
  readonly scheme: string
  readonly settings: TlsSettings
}

export class TlsListeners {
  readonly handshakes: Handshakes
  readonly #sources = new Map<string, TlsSource>()
  readonly #events: TlsEvents

  constructor(handshakesMax: number, events: TlsEvents) {
    this.handshakes = new Handshakes(handshakesMax)
    this.#events = events
  }

  /** Reads the files of all; every mistake in them. */
  async open(all: readonly TlsSettings[]): Promise<readonly string[]> {
    const mistakes = new Set<string>()
    for (const settings of all) {
      const key = JSON.stringify(settings)
      if (this.#sources.has(key)) continue
      try {
        this.#sources.set(key, await openTlsSource(settings, this.#events))
      } catch (error) {
        if (!(error instanceof TlsFilesError)) throw error
        for (const mistake of error.mistakes) mistakes.add(mistake)
      }
    }
    return [...mistakes]
  }

  stage({ scheme, settings }: TlsListener): Stage {
    const source = this.#sources.get(JSON.stringify(settings))!
    return this.handshakes.stage({ source, alpn: alpnOf(scheme) })
  }

  /** Reads all files again; false when some cannot be used: then the old ones go on. */
  reload(): boolean {
    let isGood = true
    for (const source of this.#sources.values()) isGood = source.reload() && isGood
    return isGood
  }

  /** Idempotent. */
  close(): void {
    for (const source of this.#sources.values()) source.close()
  }
}
