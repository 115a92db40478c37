/**
 * Writes docs/conformance.md from the statements, the tests' names and not-ours.json, and takes what is
 * covered by now out of open.json: `node test/support/conformance/write-docs.mjs`.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { findUncovered, paths, readOpen, renderPage } from './table.mjs'

const uncovered = findUncovered()
// What is new in the lists and has no test is a gap, not open work: only `--open` adds it.
const isAdding = process.argv.includes('--open') || !existsSync(paths.open)
const open = isAdding ? uncovered : readOpen().filter(each => uncovered.includes(each))
writeFileSync(paths.open, `${JSON.stringify(open, null, 2)}\n`)
writeFileSync(paths.page, renderPage())
process.stdout.write(`${open.length} open\n`)
