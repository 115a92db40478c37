/**
 * What may listen where: the rules that keep a fresh install from being open to the world. Pure; asked
 * at the start, when the users are known, and before anything listens.
 */
import type { ListenerOption } from './listener-url.ts'
import { isClosedByTls, NO_TLS } from './tls.ts'
import type { TlsOption } from './tls-option.ts'

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

type JudgedListener = Pick<ListenerOption, 'url' | 'protocol' | 'isLoopback' | 'insecure'> &
  Partial<Pick<ListenerOption, 'isTls' | 'tls'>>

export function judgeStart(
  listeners: readonly JudgedListener[],
  usersCount: number,
  tls: Readonly<TlsOption> = NO_TLS
): StartVerdict {
  const refusals: string[] = []
  const warnings: string[] = []
  for (const listener of listeners) {
    if (listener.isLoopback) continue
    if (listener.protocol === 'http') {
      const why = judgeAdmin(listener, usersCount, tls)
      if (why !== null) refusals.push(why)
    } else if (listener.protocol === 'metrics') {
      const shows = 'the metrics to everybody who reaches it'
      if (listener.insecure) warnings.push(`${listener.url} shows ${shows} (insecure: true)`)
      else {
        refusals.push(
          `${listener.url} would show ${shows}; listen on 127.0.0.1, or say insecure: true for this listener`
        )
      }
    } else if (usersCount > 0) {
      if (listener.isTls === true) continue
      warnings.push(
        `${listener.url} is not encrypted: passwords and messages can be read on the way`
      )
    } else if (isClosedByTls(listener, tls)) {
      // Who has no certificate or key of ours does not come so far.
    } else if (listener.insecure) {
      const open = listener.isTls === true ? 'no users' : 'no users, no TLS'
      warnings.push(`${listener.url} is open to everybody who reaches it: ${open} (insecure: true)`)
    } else {
      refusals.push(
        `${listener.url} would be open to everybody: there are no users yet; make the first with \`motemq users add NAME\`, or say insecure: true for this listener`
      )
    }
  }
  return { refusals, warnings }
}

/** Why the admin API may not be reached from other machines through this listener; null when it may. */
function judgeAdmin(
  listener: JudgedListener,
  usersCount: number,
  tls: Readonly<TlsOption>
): string | null {
  const tunnel =
    'listen on 127.0.0.1 and reach it through a tunnel (ssh -L 15672:127.0.0.1:15672 HOST)'
  if (listener.isTls !== true) {
    return `${listener.url} would open the admin API to the network without TLS; ${tunnel}`
  }
  if (usersCount === 0) {
    return `${listener.url} would open the admin API to the network: there are no users yet; make the first with \`motemq users add NAME\``
  }
  const { requireCert } = { ...tls, ...listener.tls }
  if (requireCert) return null
  return `${listener.url} would show the health and the metrics to everybody who reaches it; say requireCert: true for this listener, or ${tunnel}`
}
