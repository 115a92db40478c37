/** C's strftime in the C locale and the time zone of the process, a conversion a character. */

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September'],
  ...['October', 'November', 'December']
]
const DAY_MS = 86_400_000

const two = (value: number): string => String(value).padStart(2, '0')
const blank = (value: number): string => String(value).padStart(2)
const twelve = (date: Date): number => date.getHours() % 12 || 12

/** Days since 1 January, 0 first. */
function dayOfYear(date: Date): number {
  const day = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate())
  return (day - Date.UTC(date.getFullYear(), 0, 1)) / DAY_MS
}

/** Year and week of ISO 8601. */
function isoWeek(date: Date): [year: number, week: number] {
  const thursday = new Date(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()))
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7))
  const year = thursday.getUTCFullYear()
  return [year, Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / DAY_MS / 7) + 1]
}

function offset(date: Date): string {
  const minutes = -date.getTimezoneOffset()
  const size = Math.abs(minutes)
  return `${minutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}${two(size % 60)}`
}

function zoneName(date: Date): string {
  const parts = new Intl.DateTimeFormat('en-GB', { timeZoneName: 'short' }).formatToParts(date)
  return parts.find(part => part.type === 'timeZoneName')?.value ?? ''
}

const CONVERSIONS: Readonly<Record<string, (date: Date) => string>> = {
  a: date => DAYS[date.getDay()]!.slice(0, 3),
  A: date => DAYS[date.getDay()]!,
  b: date => MONTHS[date.getMonth()]!.slice(0, 3),
  B: date => MONTHS[date.getMonth()]!,
  c: date => all('a b e H:M:S Y', date),
  C: date => two(Math.floor(date.getFullYear() / 100)),
  d: date => two(date.getDate()),
  D: date => all('m/d/y', date),
  e: date => blank(date.getDate()),
  F: date => all('Y-m-d', date),
  g: date => two(isoWeek(date)[0] % 100),
  G: date => String(isoWeek(date)[0]),
  h: date => MONTHS[date.getMonth()]!.slice(0, 3),
  H: date => two(date.getHours()),
  I: date => two(twelve(date)),
  j: date => String(dayOfYear(date) + 1).padStart(3, '0'),
  k: date => blank(date.getHours()),
  l: date => blank(twelve(date)),
  m: date => two(date.getMonth() + 1),
  M: date => two(date.getMinutes()),
  n: () => '\n',
  p: date => (date.getHours() < 12 ? 'AM' : 'PM'),
  P: date => (date.getHours() < 12 ? 'am' : 'pm'),
  r: date => all('I:M:S p', date),
  R: date => all('H:M', date),
  s: date => String(Math.floor(date.getTime() / 1_000)),
  S: date => two(date.getSeconds()),
  t: () => '\t',
  T: date => all('H:M:S', date),
  u: date => String(date.getDay() || 7),
  U: date => two(Math.floor((dayOfYear(date) + 7 - date.getDay()) / 7)),
  V: date => two(isoWeek(date)[1]),
  w: date => String(date.getDay()),
  W: date => two(Math.floor((dayOfYear(date) + 7 - ((date.getDay() + 6) % 7)) / 7)),
  x: date => all('m/d/y', date),
  X: date => all('H:M:S', date),
  y: date => two(date.getFullYear() % 100),
  Y: date => String(date.getFullYear()),
  '%': () => '%',
  z: offset,
  Z: zoneName
}

/** Each letter of `format` that is a conversion is one. */
function all(format: string, date: Date): string {
  return format.replace(/[A-Za-z]/g, letter => CONVERSIONS[letter]!(date))
}

/** The conversions of `format`, one a letter; what is none stays, with its `%` when it stands alone. */
export function strftime(format: string, date: Date): string {
  if (format.length > 1) return all(format.replace('T', '\0'), date).replace('\0', 'T')
  return CONVERSIONS[format]?.(date) ?? `%${format}`
}

/** `2016-08-10T09:47:38+0100` */
export function isoTime(date: Date): string {
  return `${strftime('Y-m-dTH:M:S', date)}${offset(date)}`
}
