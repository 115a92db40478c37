/**
 * Texts with holes, `temp.{1}`, and the topic filters that say what fills them: each `+` is a capture, and so is
 * `#` with all levels that it stands for. `{{` and `}}` are braces.
 */

/** Literals and names of holes by turns; a literal is first and last. */
export type Template = readonly string[]

/** What a hole is called: a word, or a capture's number. */
const HOLE = /^(?:[a-z]+|[1-9][0-9]?)$/

/** @returns a sentence that says what is wrong, when something is. */
export function parseTemplate(text: string): Template | string {
  const parts: string[] = []
  let literal = ''
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!
    if ((c === '{' || c === '}') && text[i + 1] === c) {
      literal += c
      i++
    } else if (c === '}') return 'a "}" has no "{" before it; a brace itself is written "}}"'
    else if (c !== '{') literal += c
    else {
      const end = text.indexOf('}', i)
      const name = end < 0 ? '' : text.slice(i + 1, end)
      if (end < 0) return 'a "{" is not closed; a brace itself is written "{{"'
      if (!HOLE.test(name)) return `{${name}} is no name of a part, such as {1} or {topic}`
      parts.push(literal, name)
      literal = ''
      i = end
    }
  }
  parts.push(literal)
  return parts
}

/** The names of its holes. */
export function holesOf(template: Template): string[] {
  return template.filter((_, i) => i % 2 === 1)
}

export function fillTemplate(template: Template, textOf: (name: string) => string): string {
  let text = template[0]!
  for (let i = 1; i < template.length; i += 2) {
    text += textOf(template[i]!) + template[i + 1]!
  }
  return text
}

/** How many captures a topic filter has. */
export function captureCount(filter: string): number {
  return filter.split('/').filter(level => level === '+' || level === '#').length
}

/** What each wildcard of a filter stands for in a topic; null: the filter does not match it. */
export function capturesOf(filter: string, topic: string): string[] | null {
  const wanted = filter.split('/')
  const levels = topic.split('/')
  // A wildcard in the first level matches no topic that begins with $ [MQTT-4.7.2-1].
  if (topic.startsWith('$') && (wanted[0] === '+' || wanted[0] === '#')) return null
  const captures: string[] = []
  for (let i = 0; i < wanted.length; i++) {
    const level = wanted[i]!
    if (level === '#') {
      captures.push(levels.slice(i).join('/'))
      return captures
    }
    // `a/#` matches `a`, too: `#` then stands for nothing.
    if (i >= levels.length) return null
    if (level === '+') captures.push(levels[i]!)
    else if (level !== levels[i]) return null
  }
  return levels.length === wanted.length ? captures : null
}
