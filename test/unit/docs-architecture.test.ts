/** The pages in docs/ name files and commands: they are there, and no folder of the source is left out. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const page = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8')
const folders = readdirSync(join(ROOT, 'src'), { withFileTypes: true })
  .filter(entry => entry.isDirectory())
  .map(entry => entry.name)

describe('docs/architecture.md', () => {
  it('names only files that exist', () => {
    const named = [...page.matchAll(/`((?:[a-z]+\/)+[a-z-]+\.ts)`/g)].map(([, file = '']) => file)
    const missing = named.filter(
      file => !existsSync(join(ROOT, 'src', file)) && !existsSync(join(ROOT, file))
    )
    expect(named.length).toBeGreaterThan(40)
    expect(missing).toEqual([])
  })

  it('names every folder of the source', () => {
    expect(folders.filter(folder => !page.includes(`${folder}/`))).toEqual([])
  })
})

describe('docs/durability.md', () => {
  const durability = readFileSync(join(ROOT, 'docs/durability.md'), 'utf8')

  it('names only files that exist', () => {
    const named = [...durability.matchAll(/(?<![\w/])(?:[a-z]+\/)+[\w.-]+\.(?:ts|mjs|js|sh|md)\b/g)]
    const files = named.map(([file]) => file)
    const missing = files.filter(
      file => !['', 'src', 'docs'].some(folder => existsSync(join(ROOT, folder, file)))
    )
    expect(files.length).toBeGreaterThan(5)
    expect(missing).toEqual([])
  })

  it('names only long runs that exist', () => {
    const source = readFileSync(join(ROOT, 'test/long/run.js'), 'utf8')
    const runs = [...durability.matchAll(/npm run long -- ([a-z0-9-]+)/g)].map(([, run]) => run)
    expect(runs).toContain('kill')
    expect(runs.filter(run => !new RegExp(`^  '?${run}'?: \\{`, 'm').test(source))).toEqual([])
  })
})

describe('docs/decisions', () => {
  const decisions = readdirSync(join(ROOT, 'docs/decisions')).sort()

  it('are numbered one after the other', () => {
    const numbers = decisions.map(name => Number(/^(\d{4})-[a-z0-9-]+\.md$/.exec(name)?.[1]))
    expect(numbers).toEqual(decisions.map((_, i) => i + 1))
  })

  it('say context, choice and consequences', () => {
    for (const name of decisions) {
      const text = readFileSync(join(ROOT, 'docs/decisions', name), 'utf8')
      const headings = [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)
      expect(headings, name).toEqual(['Context', 'Choice', 'Consequences'])
    }
  })
})
