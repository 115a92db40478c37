/** After vitest's own report: one line for each missing program whose tests were skipped. */
import type { Reporter, TestModule } from 'vitest/node'

const NEEDS = /\(needs ([^)]+)\)/

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const skipped = new Map<string, number>()
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        const program = NEEDS.exec(test.fullName)?.[1]
        if (program !== undefined) skipped.set(program, (skipped.get(program) ?? 0) + 1)
      }
    }
    for (const [program, count] of skipped) {
      process.stdout.write(`skipped tests that need ${program}: ${count}\n`)
    }
  }
}
