// How an answer ended, in words. One that is complete, or goes on after its calls, needs none.

import type { FinishReason, MessageView } from '../client'

const WORDS: Partial<Record<FinishReason, string>> = {
  length: 'Cut at the output limit',
  content_filter: 'Stopped by the content filter',
  refusal: 'The model declined',
  cancelled: 'Cancelled',
}

export const LEFT_OUT = 'Left out from now on: the content filter refused it'

export function endingWords(reason: FinishReason | null): string | null {
  return reason === null ? null : (WORDS[reason] ?? null)
}

/** Of an answer that has ended. A cancelled one of an older service has no reason. */
export function endingOf({ status, finish_reason }: Pick<MessageView, 'status' | 'finish_reason'>): string | null {
  if (status === 'streaming') return null
  return endingWords(finish_reason ?? (status === 'cancelled' ? 'cancelled' : null))
}
