// The axis of a trace: to scale, except where nearly all of the time passes in one wait.

/** How long a shortened part is drawn, as a share of all shorter ones together. */
const SHORTENED = 0.5
/** A part is shortened if it is this many times longer than all shorter ones together: beside it they would be lines. */
const TOO_LONG = 10
/** What is shorter is drawn to scale in any case. */
const SHORT_MS = 5_000

export interface Scale {
  /** The position of a time in the picture, from 0 to 1. */
  place: (at: number) => number
  /** Parts of the picture that are not to scale, as times. */
  breaks: { from: number; to: number }[]
}

export interface Timed {
  from: number
  to: number
}

/** To scale, except for parts in which nearly all of the time passes: an axis with breaks. */
export function scaleOf({ from, to }: Timed, segments: readonly Timed[]): Scale {
  const edges = [...new Set([from, to, ...segments.flatMap((segment) => [segment.from, segment.to])])].sort((one, other) => one - other)
  const parts = edges.slice(1).map((end, index) => ({ start: edges[index] ?? from, end, drawn: end - (edges[index] ?? from), isShortened: false }))
  let shorter = 0
  for (const part of [...parts].sort((one, other) => one.drawn - other.drawn)) {
    if (part.drawn > SHORT_MS && shorter > 0 && part.drawn > TOO_LONG * shorter) {
      part.drawn = shorter * SHORTENED
      part.isShortened = true
    }
    shorter += part.drawn
  }
  const whole = shorter || 1
  return {
    breaks: parts.filter(({ isShortened }) => isShortened).map(({ start, end }) => ({ from: start, to: end })),
    place: (at) => {
      let before = 0
      for (const part of parts) {
        if (at >= part.end) before += part.drawn
        else return (before + (Math.max(0, at - part.start) / (part.end - part.start)) * part.drawn) / whole
      }
      return 1
    },
  }
}
