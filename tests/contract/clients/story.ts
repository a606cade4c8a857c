// The story that each generated client runs: what it has to find out, and the environment that it runs in.

export interface Told {
  created: number
  posted: number
  waits: string
  code: string | undefined
  approved: string
  ended: string
  roles: string[]
  steps: number
  mode: string
  exported: string
  deleted: number
  refused: string
}

function given(name: string): string {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

export const BASE_URL = given('STORY_BASE_URL')
export const USER = given('STORY_USER')
export const CONTENT = given('STORY_CONTENT')
export const ENDED = ['completed', 'failed', 'cancelled']

/** What was given; a client whose answers are empty fails here. */
export function there<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new Error(`${what} is missing`)
  return value
}

export async function begin(file: Blob): Promise<string> {
  return new TextDecoder('latin1').decode(await file.slice(0, 5).arrayBuffer())
}

export function tell(told: Told): void {
  console.log(JSON.stringify(told))
}
