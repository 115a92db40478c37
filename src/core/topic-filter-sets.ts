/**
 * MQTT topic filters as the sets of topics that they match: whether one holds another, and what two have
 * in common. For filters with `#` as their last level only; both filters begin with a wildcard or with
 * a level that is no `$…`, or both with the same `$…` level: whoever asks has judged `$` topics before.
 */

/** Whether every topic that `inner` matches is matched by `outer`. */
export function coversFilter(outer: string, inner: string): boolean {
  const wide = outer.split('/')
  const narrow = inner.split('/')
  if (isWildcard(wide[0]) && isDollarLevel(narrow[0])) return false
  for (let i = 0; ; i++) {
    const level = wide[i]
    if (level === '#') return true
    const wanted = narrow[i]
    if (wanted === undefined || level === undefined) return wanted === level
    // As first level `#` stands for one level or more, as `+/#` does.
    if (wanted === '#') return i === 0 && level === '+' && wide[1] === '#'
    if (level !== '+' && level !== wanted) return false
  }
}

/** The filter of the topics that both match; null: there are none. */
export function intersectFilters(a: string, b: string): string | null {
  const left = a.split('/')
  const right = b.split('/')
  if (
    isWildcard(left[0]) ? isDollarLevel(right[0]) : isWildcard(right[0]) && isDollarLevel(left[0])
  ) {
    return null
  }
  const common: string[] = []
  for (let i = 0; ; i++) {
    const mine = left[i]
    const other = right[i]
    // `#` takes whatever the other one still has; that may be nothing.
    if (mine === '#') return [...common, ...right.slice(i)].join('/')
    if (other === '#') return [...common, ...left.slice(i)].join('/')
    if (mine === undefined || other === undefined) return mine === other ? common.join('/') : null
    if (mine !== '+' && other !== '+' && mine !== other) return null
    common.push(mine === '+' ? other : mine)
  }
}

function isWildcard(level: string | undefined): boolean {
  return level === '+' || level === '#'
}

function isDollarLevel(level: string | undefined): boolean {
  return level?.startsWith('$') ?? false
}
