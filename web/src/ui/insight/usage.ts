// The token usage and cost of model calls, as text.

import type { Usage } from '../../client'
import { compact } from './charts'

/** Statistics of an earlier service have only the two sums. */
export type Used = Partial<Usage>

/** "$0.0123": amounts below a dollar have more decimals. */
export function money(usd: number): string {
  if (usd > 0 && usd < 0.0001) return '< $0.0001'
  const digits = usd !== 0 && usd < 1 ? 4 : 2
  return `$${usd.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })}`
}

/** "1.2k in (800 cached)" and "300 out (120 reasoning)". */
export function tokenWords({ input_tokens = 0, output_tokens = 0, cached_input_tokens = 0, reasoning_tokens = 0 }: Used): [string, string] {
  const part = (count: number, kind: string): string => (count === 0 ? '' : ` (${compact(count)} ${kind})`)
  return [`${compact(input_tokens)} in${part(cached_input_tokens, 'cached')}`, `${compact(output_tokens)} out${part(reasoning_tokens, 'reasoning')}`]
}

export function tokensOf({ input_tokens = 0, output_tokens = 0 }: Used): number {
  return input_tokens + output_tokens
}
