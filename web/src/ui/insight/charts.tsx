// Simple bar charts as SVG in the theme's colours, with the same figures as text for people who cannot see them.

import type { RefObject } from 'preact'
import { useLayoutEffect, useRef, useState } from 'preact/hooks'

/** Width of the bar of shares, which is stretched, and of a chart until it is measured. */
const WIDTH = 460
const HEIGHT = 160
const FOOT = 22
const HEAD = 16

const WIDEST_BAR = 56
/** Width of a label under the bars, and of one character of a figure on a bar. */
const LABEL = 56
const CHARACTER = 7

/** The chart's width on the page. It is drawn in pixels, so that its text has the normal size. */
export function useWidth(): [RefObject<HTMLElement | null>, number] {
  const element = useRef<HTMLElement>(null)
  const [width, setWidth] = useState(WIDTH)
  useLayoutEffect(() => {
    const figure = element.current
    if (figure === null) return undefined
    const measure = (): void => setWidth(Math.max(200, figure.querySelector('svg')?.clientWidth ?? WIDTH))
    measure()
    const observer = new ResizeObserver(measure)
    observer.observe(figure)
    return () => observer.disconnect()
  }, [])
  return [element, width]
}

/**
 * Where the figures on bars stand, in the bars' order; null: it would run into another one, or the bar has none. The
 * highest comes first, then the newest. Nothing stands outside of the chart.
 */
export function placesOfFigures(sums: readonly number[], words: readonly string[], width: number): (number | null)[] {
  const step = width / Math.max(1, sums.length)
  const taken: [number, number][] = []
  const places: (number | null)[] = sums.map(() => null)
  const order = sums.map((_, place) => place).reverse()
  const highest = sums.indexOf(Math.max(...sums))
  for (const place of [highest, ...order.filter((one) => one !== highest)]) {
    if ((sums[place] ?? 0) <= 0) continue
    const half = ((words[place] ?? '').length * CHARACTER) / 2
    const at = Math.min(width - half, Math.max(half, (place + 0.5) * step))
    if (taken.some(([from, to]) => at - half < to && at + half > from)) continue
    taken.push([at - half, at + half])
    places[place] = at
  }
  return places
}

export interface Series {
  name: string
  tone: 'one' | 'two' | 'three'
  values: readonly (number | null)[]
}

/** Stacked bars, one per label. */
export function Bars({ title, labels, series, format = compact }: { title: string; labels: readonly string[]; series: readonly Series[]; format?: (value: number) => string }) {
  const sums = labels.map((_, place) => series.reduce((sum, { values }) => sum + (values[place] ?? 0), 0))
  const top = Math.max(...sums, 0)
  const [figure, width] = useWidth()
  const step = width / Math.max(1, labels.length)
  const bar = Math.min(WIDEST_BAR, step * 0.68)
  const every = Math.ceil(LABEL / step)
  const figures = placesOfFigures(sums, sums.map(format), width)
  const scale = top === 0 ? 0 : (HEIGHT - FOOT - HEAD) / top
  return (
    <figure class="chart" ref={figure}>
      <figcaption>
        {title}
        <span class="legend" aria-hidden="true">
          {series.map(({ name, tone }) => (
            <span key={name} class={tone}>
              {name}
            </span>
          ))}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={`${title}: ${summary(labels, series, format)}`}>
        <line x1="0" x2={width} y1={HEIGHT - FOOT} y2={HEIGHT - FOOT} class="axis" />
        {top === 0 ? (
          <text x={width / 2} y={HEIGHT / 2} class="label" text-anchor="middle">
            nothing yet
          </text>
        ) : (
          labels.map((label, place) => {
            let y = HEIGHT - FOOT
            return (
              <g key={label}>
                {series.map(({ name, tone, values }) => {
                  const height = (values[place] ?? 0) * scale
                  y -= height
                  return (
                    <rect key={name} class={tone} x={(place + 0.5) * step - bar / 2} y={y} width={bar} height={height} rx={Math.min(3, height / 2)}>
                      <title>{`${label}, ${name}: ${format(values[place] ?? 0)}`}</title>
                    </rect>
                  )
                })}
                {figures[place] != null ? (
                  <text x={figures[place]!} y={y - 4} class="value" text-anchor="middle">
                    {format(sums[place] ?? 0)}
                  </text>
                ) : null}
              </g>
            )
          })
        )}
        {labels.map((label, place) =>
          (labels.length - 1 - place) % every !== 0 ? null : (
            <text key={label} x={(place + 0.5) * step} y={HEIGHT - 6} class="label" text-anchor="middle">
              {label}
            </text>
          ),
        )}
      </svg>
    </figure>
  )
}

function summary(labels: readonly string[], series: readonly Series[], format: (value: number) => string): string {
  return labels
    .map((label, place) => `${label} ${series.map(({ name, values }) => `${name} ${format(values[place] ?? 0)}`).join(', ')}`)
    .join('; ')
}

/** Parts of a whole, as one bar and text. */
export function Shares({ title, parts }: { title: string; parts: readonly { name: string; value: number; tone: string }[] }) {
  const total = parts.reduce((sum, { value }) => sum + value, 0)
  const shown = parts.filter(({ value }) => value > 0)
  let x = 0
  return (
    <figure class="chart shares">
      <figcaption>
        {title} <strong>{compact(total)}</strong>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} 14`} preserveAspectRatio="none" aria-hidden="true">
        <rect class="rest" width={WIDTH} height="14" rx="4" />
        {shown.map(({ name, value, tone }) => {
          const width = (value / total) * WIDTH
          const at = x
          x += width
          return <rect key={name} class={tone} x={at} width={Math.max(2, width - 2)} height="14" rx="4" />
        })}
      </svg>
      <p class="legend">
        {shown.length === 0 ? 'none yet' : null}
        {shown.map(({ name, value, tone }) => (
          <span key={name} class={tone}>
            {name} {compact(value)}
          </span>
        ))}
      </p>
    </figure>
  )
}

export function compact(value: number): string {
  if (value >= 1_000_000) return `${(value / 1_000_000).toFixed(1)}M`
  if (value >= 10_000) return `${Math.round(value / 1000)}k`
  if (value >= 1_000) return `${(value / 1000).toFixed(1)}k`
  return Number.isInteger(value) ? String(value) : value.toFixed(1)
}

export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return '–'
  if (value < 1) return `${Math.round(value * 1000)} ms`
  if (value < 100) return `${value.toFixed(1)} s`
  if (value < 7200) return `${Math.round(value / 60)} min`
  return `${(value / 3600).toFixed(1)} h`
}
