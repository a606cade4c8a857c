import { parsedJson } from '../../client'

/** Arguments that a person wrote as JSON, with the digits of their numbers; or what is wrong with them. */
export function parsedArguments(text: string): { ok: true; value: Record<string, unknown> } | { ok: false; problem: string } {
  try {
    const value = parsedJson(text, true)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return { ok: false, problem: 'The arguments must be a JSON object.' }
    return { ok: true, value: value as Record<string, unknown> }
  } catch (error) {
    return { ok: false, problem: error instanceof Error ? error.message : 'Not valid JSON.' }
  }
}
