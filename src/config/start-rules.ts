/**
 * What may listen where: the rules that keep a fresh install from being open to the world. Pure; asked
 * at the start, when the users are known, and before anything listens.
 */
import type { ListenerOption } from './listener-url.ts'

export interface StartVerdict {
  /** One sentence a listener that may not be opened. Any: nothing starts, exit 2. */
  readonly refusals: readonly string[]
  /** One sentence each; it starts. */
  readonly warnings: readonly string[]
}

/** Thrown by the start for what `judgeStart` refuses. */
export class StartRefusedError extends Error {
  readonly refusals: readonly string[]

  constructor(refusals: readonly string[]) {
    super(refusals.join('\n'))
    this.name = 'StartRefusedError'
    this.refusals = refusals
  }
}

export function judgeStart(
  listeners: readonly Pick<ListenerOption, 'url' | 'protocol' | 'isLoopback' | 'insecure'>[],
  usersCount: number
): StartVerdict {
  const refusals: string[] = []
  const warnings: string[] = []
  for (const listener of listeners) {
    if (listener.isLoopback) continue
    if (listener.protocol === 'http') {
      refusals.push(
        `${listener.url} would open the admin API to the network without TLS; listen on 127.0.0.1 and reach it through a tunnel (ssh -L 15672:127.0.0.1:15672 HOST)`
      )
    } else if (listener.protocol === 'metrics') {
      const shows = 'the metrics to everybody who reaches it'
      if (listener.insecure) warnings.push(`${listener.url} shows ${shows} (insecure: true)`)
      else {
        refusals.push(
          `${listener.url} would show ${shows}; listen on 127.0.0.1, or say insecure: true for this listener`
        )
      }
    } else if (usersCount > 0) {
      warnings.push(
        `${listener.url} is not encrypted: passwords and messages can be read on the way`
      )
    } else if (listener.insecure) {
      warnings.push(
        `${listener.url} is open to everybody who reaches it: no users, no TLS (insecure: true)`
      )
    } else {
      refusals.push(
        `${listener.url} would be open to everybody: there are no users yet; make the first with \`motemq users add NAME\`, or say insecure: true for this listener`
      )
    }
  }
  return { refusals, warnings }
}
