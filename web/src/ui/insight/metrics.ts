// Parses Prometheus text, only as far as the page needs it.

export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+([^\s]+)/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g

export function samples(text: string): Sample[] {
  const found: Sample[] = []
  for (const line of text.split('\n')) {
    const match = line.startsWith('#') ? null : LINE.exec(line)
    if (match === null) continue
    const labels: Record<string, string> = {}
    for (const [, name, value] of (match[2] ?? '').matchAll(LABEL)) labels[name ?? ''] = (value ?? '').replace(/\\(.)/g, '$1')
    found.push({ name: match[1] ?? '', labels, value: Number(match[3]) })
  }
  return found
}

export function total(all: readonly Sample[], name: string): number | null {
  const matching = all.filter((sample) => sample.name === name)
  return matching.length === 0 ? null : matching.reduce((sum, { value }) => sum + value, 0)
}
