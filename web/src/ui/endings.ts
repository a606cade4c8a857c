// How an answer ended, as text. An answer that is complete or continues after its calls has no text.

import type { FinishReason, MessageView } from '../client'

const WORDS: Partial<Record<FinishReason, string>> = {
  length: 'Cut at the output limit',
  content_filter: 'Stopped by the content filter',
  refusal: 'The model declined',
  cancelled: 'Cancelled',
}

export const LEFT_OUT = 'The model no longer reads this: the content filter refused it'

export function endingWords(reason: FinishReason | null): string | null {
  return reason === null ? null : (WORDS[reason] ?? null)
}

/** The text for an ended answer. A cancelled answer of an older service has no reason. */
export function endingOf({ status, finish_reason }: Pick<MessageView, 'status' | 'finish_reason'>): string | null {
  if (status === 'streaming') return null
  return endingWords(finish_reason ?? (status === 'cancelled' ? 'cancelled' : null))
}
