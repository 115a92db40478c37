/** The table of the specifications' statements has no gap, and docs/conformance.md shows it as it is. */
import { describe, expect, it } from 'vitest'
import {
  findUncovered,
  namesIn,
  readNames,
  readNotOurs,
  readOpen,
  readPage,
  readStatements,
  renderPage
} from '../support/conformance/table.mjs'

const statements = readStatements()
const { files, unversioned } = readNames()
const notOurs = readNotOurs()
const excused = Object.entries(notOurs).flatMap(([version, reasons]) =>
  Object.entries(reasons).map(([number, reason]) => ({ version, number, reason }))
)

function isKnown(statement: string): boolean {
  const [version = '', number = ''] = statement.split(' ')
  return (version === 'v3' || version === 'v5') && statements[version][number] !== undefined
}

describe('the conformance table', () => {
  it('has as many statements as the specifications', () => {
    expect(Object.keys(statements.v3).length).toBe(141)
    expect(Object.keys(statements.v5).length).toBe(251)
  })

  it('has a test or a reason for each statement that binds a server', () => {
    expect(findUncovered()).toEqual([])
    expect(readOpen()).toEqual([])
  })

  it('knows every statement that a test names, and its version', () => {
    expect([...files.keys()].filter(statement => !isKnown(statement))).toEqual([])
    expect(unversioned).toEqual([])
  })

  it('excuses only known statements, with a reason, and none that a test names', () => {
    const wrong = excused.filter(
      ({ version, number, reason }) =>
        !isKnown(`${version} ${number}`) || reason === '' || files.has(`${version} ${number}`)
    )
    expect(wrong).toEqual([])
  })
})

describe('a name', () => {
  it('says its version once for several statements, and may speak of both', () => {
    const source = "it('works, v3 [MQTT-3.1.0-1] v5 [MQTT-3.1.0-1] [MQTT-3.1.0-2]', () => {})"
    expect([...namesIn(source).named]).toEqual([
      'v3 MQTT-3.1.0-1',
      'v5 MQTT-3.1.0-1',
      'v5 MQTT-3.1.0-2'
    ])
  })

  it('without a version is reported', () => {
    expect(namesIn("it('works [MQTT-3.1.0-1]', () => {})").unversioned).toEqual([
      '1: works [MQTT-3.1.0-1]'
    ])
  })

  it('does not count in a comment, nor of a test that is skipped', () => {
    const sources = [
      '// v5 [MQTT-3.1.0-1]',
      ' * v5 [MQTT-3.1.0-1]',
      "it.skip('v5 [MQTT-3.1.0-1]', () => {})",
      "it.todo(\n  'v5 [MQTT-3.1.0-1]'\n)"
    ]
    for (const source of sources) expect([...namesIn(source).named]).toEqual([])
  })
})

describe('docs/conformance.md', () => {
  it('is current: else run node test/support/conformance/write-docs.mjs', () => {
    expect(readPage()).toBe(renderPage())
  })
})
