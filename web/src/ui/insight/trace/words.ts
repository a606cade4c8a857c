// Rows of a trace in words.

import { span } from '../../bits'
import { money, tokenWords } from '../usage'
import type { Row } from './rows'

export function short(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : span(ms)
}

/** How it went, what was used and what that cost. */
export function noteOf({ note, usage }: Row): string {
  return [note, ...(usage === null ? [] : [...tokenWords(usage), usage.cost_usd == null ? '' : money(usage.cost_usd)])].filter((part) => part !== '').join(', ')
}

/** How a bar is drawn. */
export function toneOf({ about: { kind }, status }: Row): 'one' | 'two' | 'three' | 'wait' | 'bad' | 'rest-2' {
  if (kind === 'approval' || kind === 'wait') return 'wait'
  if (kind === 'queue') return 'rest-2'
  if (status === 'failed' || status === 'rejected') return 'bad'
  return kind === 'model' || kind === 'attempt' ? 'one' : kind === 'tool' ? 'two' : 'three'
}
