// JSON that keeps the digits of numbers: a person must approve exactly what runs, and a double has only 53 bits.
//
// Invariants: in free-form values (arguments and results of tools, schemas and answers to them, details, metadata) a number
// is written again exactly as it was read; everywhere else a number is a number, as the wire's types say.

/** A number that a double would write as another text: too long, or written as 1.0 or 1e5. */
export class ExactNumber {
  constructor(readonly source: string) {}

  toString(): string {
    return this.source
  }

  /** For `jsonText`, which replaces it by the digits. */
  toJSON(): string {
    return MARK + this.source
  }
}

/** Prefix of digits that are temporarily a string. It is random, so that no other text contains it. */
const MARK = `${[...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join('-')}:`
const MARKED = new RegExp(`"${MARK}([^"]*)"`, 'g')
/** Delimiters of strings, and numbers by the grammar of RFC 8259. It cannot backtrack, since texts may be long. */
const QUOTE_OR_NUMBER = /\\[^]|"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/g
const FREE_FORM: ReadonlySet<string> = new Set(['arguments', 'decided_arguments', 'result', 'details', 'metadata', 'output', 'output_schema'])

/** The same JSON with numbers that a double cannot keep as marked strings, for a plain JSON parser. */
export function marked(text: string): string {
  let isInString = false
  return text.replace(QUOTE_OR_NUMBER, (token) => {
    if (token === '"') isInString = !isInString
    const isNumber = !isInString && token !== '"' && !token.startsWith('\\')
    return isNumber && String(Number(token)) !== token ? `"${MARK}${token}"` : token
  })
}

/** A value parsed from `marked` text, with its numbers restored in place. */
export function unmarked(value: unknown, isFreeForm = false): unknown {
  if (typeof value === 'string') {
    if (!value.startsWith(MARK)) return value
    const source = value.slice(MARK.length)
    return isFreeForm ? new ExactNumber(source) : Number(source)
  }
  if (Array.isArray(value)) value.forEach((item, index) => (value[index] = unmarked(item, isFreeForm)))
  else if (typeof value === 'object' && value !== null) {
    const fields = value as Record<string, unknown>
    for (const name of Object.keys(fields)) fields[name] = unmarked(fields[name], isFreeForm || FREE_FORM.has(name))
  }
  return value
}

/** isFreeForm: the whole value is free-form, not only some fields. Throws SyntaxError like JSON.parse. */
export function parsedJson(text: string, isFreeForm = false): unknown {
  // Parse the original first, since marking could make an invalid text valid.
  const value: unknown = JSON.parse(text)
  const safe = marked(text)
  return safe === text ? value : unmarked(JSON.parse(safe), isFreeForm)
}

/** Like JSON.stringify, with exact numbers as they were written. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(MARKED, '$1')
}
