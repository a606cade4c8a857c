// JSON that keeps the digits of numbers: what a person approves must be what runs, and a double holds 53 bits.
//
// Invariants: in free-form values (arguments and results of tools, schemas and answers to them, details, metadata) a number
// is written again exactly as it was read; everywhere else a number is a number, as the wire's types say.

/** A number that would come back as another text: too long for a double, or written as 1.0 or 1e5. */
export class ExactNumber {
  constructor(readonly source: string) {}

  toString(): string {
    return this.source
  }

  /** For `jsonText`, which puts the digits in its place. */
  toJSON(): string {
    return MARK + this.source
  }
}

/** Stands before digits that are, for a moment, a string. Nobody else's text can hold it. */
const MARK = `${[...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join('-')}:`
const MARKED = new RegExp(`"${MARK}([^"]*)"`, 'g')
/** Where strings begin and end, and numbers by the grammar of RFC 8259. Nothing in it can go back: texts may be long. */
const QUOTE_OR_NUMBER = /\\[^]|"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/g
const FREE_FORM: ReadonlySet<string> = new Set(['arguments', 'decided_arguments', 'result', 'details', 'metadata', 'output', 'output_schema'])

/** The same JSON with the numbers that a double cannot keep as marked strings, for a parser that knows no better. */
export function marked(text: string): string {
  let isInString = false
  return text.replace(QUOTE_OR_NUMBER, (token) => {
    if (token === '"') isInString = !isInString
    const isNumber = !isInString && token !== '"' && !token.startsWith('\\')
    return isNumber && String(Number(token)) !== token ? `"${MARK}${token}"` : token
  })
}

/** What was parsed of `marked` text, with its numbers in their places. The value is changed, not copied. */
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

/** isFreeForm: the whole of it, not only the fields that always are. Throws SyntaxError as JSON.parse does. */
export function parsedJson(text: string, isFreeForm = false): unknown {
  // First as it is: marking a wrong text could make it right.
  const value: unknown = JSON.parse(text)
  const safe = marked(text)
  return safe === text ? value : unmarked(JSON.parse(safe), isFreeForm)
}

/** As JSON.stringify, with exact numbers as they were written. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(MARKED, '$1')
}
