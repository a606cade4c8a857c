// What somebody may ask first. Each works with the offline model of `./dev up`; one waits for an approval.

import { isDev } from '../identity'

export interface Example {
  name: string
  /** What happens then. */
  about: string
  prompt: string
}

const ALWAYS: readonly Example[] = [
  { name: 'Calculate', about: 'Calls a tool, which needs nobody.', prompt: 'What is 17 * 23?' },
  { name: 'What time is it?', about: 'Looks at a clock elsewhere.', prompt: 'What time is it in Tokyo?' },
  { name: 'Make a file', about: 'A PDF that you can download.', prompt: 'Make a pdf with # Hello' },
]

/** `./dev up` runs a service for notes beside the app, at the next port. */
export function examplesAt({ port }: { port: string }, isLocal = isDev): readonly Example[] {
  if (!isLocal || port === '') return ALWAYS
  const url = `http://localhost:${Number(port) + 1}/notes`
  return [...ALWAYS, { name: 'Send a note', about: 'Acts outside, so it waits until a person approves it.', prompt: `POST {"text": "hello"} to ${url}` }]
}
