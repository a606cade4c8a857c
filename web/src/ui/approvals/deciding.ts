// Who decides an approval, in words and for the caller. The service checks who may: this only keeps obvious attempts away.

import type { Approval } from '../../client'
import type { Identity } from '../identity'

/** Whether a policy names the caller, by role or by user id. While the caller is unknown, anybody might be named. */
export function mayDecide(me: Identity | null, { policy }: Pick<Approval, 'policy'>): boolean {
  if (me === null) return true
  const roles: string[] = [...policy.roles, policy.escalation_role ?? '']
  return policy.users.includes(me.name) || roles.includes('user') || me.roles.some((role) => roles.includes(role))
}

/** Whether its policy leaves the caller only to reject it. */
export function mayOnlyReject(me: Identity | null, { policy, requested_by: asked }: Pick<Approval, 'policy' | 'requested_by'>): boolean {
  return policy.forbid_self_approval && me?.name === asked
}

/** Who has to approve. An approval that older code told of has no requirements. */
export function whom({ policy, requirements }: Pick<Approval, 'policy'> & Partial<Pick<Approval, 'requirements'>>): string {
  const ofRules = (requirements ?? []).filter(({ rule }) => rule !== null)
  return ofRules.length === 0 ? people(policy) : ofRules.map(people).join(', and ')
}

export function people({ roles, users, quorum }: { roles: string[]; users: string[]; quorum: number }): string {
  const who = [...users, ...roles.map((role) => `any ${role}`)]
  const named = who.length === 0 ? 'an approver' : who.join(' or ')
  return quorum > 1 ? `${quorum} people (${named})` : named
}
