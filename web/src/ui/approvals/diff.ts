// A line diff of two texts by their longest common subsequence: exact, for small texts.

export interface DiffLine {
  kind: 'same' | 'added' | 'removed'
  text: string
}

const MOST_LINES = 1_000

export function diffLines(before: string, after: string): DiffLine[] {
  const one = before.split('\n')
  const other = after.split('\n')
  if (one.length > MOST_LINES || other.length > MOST_LINES) {
    return [...one.map((text) => ({ kind: 'removed' as const, text })), ...other.map((text) => ({ kind: 'added' as const, text }))]
  }
  const width = other.length + 1
  const common = new Uint16Array((one.length + 1) * width)
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      common[i * width + j] =
        one[i] === other[j]
          ? (common[(i + 1) * width + j + 1] ?? 0) + 1
          : Math.max(common[(i + 1) * width + j] ?? 0, common[i * width + j + 1] ?? 0)
    }
  }
  const lines: DiffLine[] = []
  let i = 0
  let j = 0
  while (i < one.length || j < other.length) {
    const left = one[i]
    const right = other[j]
    if (left !== undefined && left === right) {
      lines.push({ kind: 'same', text: left })
      i += 1
      j += 1
    } else if (left !== undefined && (right === undefined || (common[(i + 1) * width + j] ?? 0) >= (common[i * width + j + 1] ?? 0))) {
      lines.push({ kind: 'removed', text: left })
      i += 1
    } else {
      lines.push({ kind: 'added', text: right ?? '' })
      j += 1
    }
  }
  return lines
}
