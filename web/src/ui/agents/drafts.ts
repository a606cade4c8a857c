// An agent as its form and a trial hold it: what an admin writes, without what the service sets.

import type { Agent } from '../../client'

/** The fields that an admin writes; the service sets the others. */
export type Draft = Omit<Agent, 'id' | 'version' | 'created_at' | 'created_by' | 'source' | 'missing_tools' | 'mcp_pins'>

export function draftOf({ id: _id, version: _version, created_at: _at, created_by: _by, source: _source, missing_tools: _missing, mcp_pins: _pins, ...draft }: Agent): Draft {
  return draft
}
