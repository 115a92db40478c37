/** Spans of time as streams have them: a number and one unit, `7D`, `90m`. */

const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  D: 86_400_000,
  M: 30 * 86_400_000,
  Y: 365 * 86_400_000
}

/** Milliseconds of a span; null: it is none. */
export function durationMs(text: string): number | null {
  const parts = /^(\d{1,12})([smhDMY])$/.exec(text)
  if (parts === null) return null
  const ms = Number(parts[1]) * UNIT_MS[parts[2]!]!
  return ms > 0 ? ms : null
}
