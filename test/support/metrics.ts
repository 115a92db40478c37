/** `/metrics` of a running program as numbers. */
import type { Program } from './program.ts'

export interface Metrics {
  /** The sum of a family's samples whose labels contain all of these. */
  sum(name: string, labels?: Readonly<Record<string, string>>): number
  readonly text: string
}

interface Sample {
  readonly name: string
  readonly labels: string
  readonly value: number
}

export function parseMetrics(text: string): Metrics {
  const samples: Sample[] = []
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:][\w:]*)(\{.*\})? ([^ ]+)$/.exec(line)
    if (match === null) continue
    const [, name = '', labels = '', value = ''] = match
    samples.push({ name, labels, value: Number(value) })
  }
  const sum: Metrics['sum'] = (name, labels = {}) => {
    const family = samples.filter(sample => sample.name === `motemq_${name}`)
    if (family.length === 0) throw new Error(`no metric motemq_${name}`)
    const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`)
    return family
      .filter(sample => wanted.every(label => sample.labels.includes(label)))
      .reduce((total, { value }) => total + value, 0)
  }
  return { sum, text }
}

export async function readMetrics(program: Program): Promise<Metrics> {
  const authorization = `Basic ${Buffer.from('guest:guest').toString('base64')}`
  const url = new URL('/metrics', program.url('http'))
  const response = await fetch(url, { headers: { authorization } })
  if (!response.ok) throw new Error(`GET ${url}: ${response.status}`)
  return parseMetrics(await response.text())
}
