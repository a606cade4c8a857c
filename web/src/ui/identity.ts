// Who is using the console. In Azure the platform knows; on a laptop callers name themselves.

const USER_KEY = 'parley.user'
export const DEV_DEFAULT = 'dev;approver,admin'

export const isDev = document.querySelector('meta[name="parley-auth"]')?.getAttribute('content') === 'dev'

export interface Identity {
  name: string
  roles: string[]
}

export function devUser(): string {
  return localStorage.getItem(USER_KEY) ?? DEV_DEFAULT
}

/** Become somebody else; the page starts afresh, so that nothing of the former is left on it. */
export function becomeDevUser(user: string): void {
  localStorage.setItem(USER_KEY, user)
  window.location.reload()
}

export function identityHeaders(): Record<string, string> {
  return isDev ? { 'x-dev-user': devUser() } : {}
}

export function parsedUser(user: string): Identity {
  const [name = '', roles = ''] = user.split(';')
  return { name: name.trim(), roles: roles.split(',').map((role) => role.trim()).filter(Boolean) }
}

interface AuthMe {
  user_id?: string
  user_claims?: { typ: string; val: string }[]
  clientPrincipal?: { userDetails?: string; userRoles?: string[] } | null
}

/** The caller as the platform sees them; null when it does not say. */
export async function identity(): Promise<Identity | null> {
  if (isDev) return parsedUser(devUser())
  try {
    const response = await fetch('/.auth/me', { credentials: 'same-origin' })
    if (!response.ok) return null
    const answer = (await response.json()) as AuthMe | AuthMe[]
    const me = Array.isArray(answer) ? answer[0] : answer
    if (me?.clientPrincipal) return { name: me.clientPrincipal.userDetails ?? '', roles: me.clientPrincipal.userRoles ?? [] }
    const claims = me?.user_claims ?? []
    const roles = claims.filter(({ typ }) => typ === 'roles' || typ.endsWith('/claims/role')).map(({ val }) => val)
    return me?.user_id === undefined ? null : { name: me.user_id, roles }
  } catch {
    return null
  }
}
