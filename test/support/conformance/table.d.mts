/** Types of table.mjs. */
export type SpecVersion = 'v3' | 'v5'

export interface Statement {
  readonly binds: 'server' | 'client' | 'both'
  readonly says: string
}

export function readStatements(): Record<SpecVersion, Record<string, Statement>>
export function namesIn(source: string): { named: Set<string>; unversioned: string[] }
export function readNames(): { files: Map<string, string[]>; unversioned: string[] }
export function readNotOurs(): Record<SpecVersion, Record<string, string>>
export function readOpen(): string[]
export function findUncovered(): string[]
export function renderPage(): string
export function readPage(): string
export const paths: { readonly page: string; readonly open: string }
