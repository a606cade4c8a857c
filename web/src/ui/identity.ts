// Who is using the console. In Azure the platform knows; on a laptop callers name themselves.
//
// Where the API has another origin than this page, the platform's cookie does not travel. Its sign-in then hands out a
// token, in the part of the address that no server sees; it is kept for this tab alone and sent as a header.

import { parsedJson, type Api, type Me } from '../client'

const USER_KEY = 'parley.user'
const TOKEN_KEY = 'parley.token'
const PLACE_KEY = 'parley.place'
export const DEV_DEFAULT = 'dev;approver,admin'

function fact(name: string): string {
  return document.querySelector(`meta[name="parley-${name}"]`)?.getAttribute('content') ?? ''
}

export const isDev = fact('auth') === 'dev'
/** Where the API is; empty: where this page is. */
export const apiOrigin = fact('api')
const usesToken = !isDev && apiOrigin !== ''

export interface Identity {
  name: string
  roles: string[]
}

/** Take what a sign-in has just brought out of the address, before anything reads that. */
export function arrive(): void {
  const brought = usesToken ? /^#token=(.+)$/.exec(window.location.hash)?.[1] : undefined
  if (brought === undefined) return
  const place = sessionStorage.getItem(PLACE_KEY) ?? ''
  window.history.replaceState(null, '', window.location.pathname + place)
  const token = tokenOf(decodeURIComponent(brought))
  if (token !== null) sessionStorage.setItem(TOKEN_KEY, token)
}

/** How long the caller is signed in, in milliseconds; null: not at all. */
export function signedInFor(now = Date.now()): number | null {
  if (!usesToken) return Infinity
  const token = sessionStorage.getItem(TOKEN_KEY)
  if (token === null) return null
  const until = expiryOf(token)
  return until > now ? until - now : null
}

export function signIn(): void {
  sessionStorage.setItem(PLACE_KEY, window.location.hash)
  const back = encodeURIComponent(window.location.origin)
  window.location.assign(`${apiOrigin}/.auth/login/aad?session_mode=token&post_login_redirect_url=${back}`)
}

/** Only of this page: the platform's token has no end before its own. Null where there is none to forget. */
export const signOut = usesToken
  ? (): void => {
      sessionStorage.removeItem(TOKEN_KEY)
      window.location.reload()
    }
  : null

function tokenOf(text: string): string | null {
  try {
    const { authenticationToken } = parsedJson(text) as { authenticationToken?: unknown }
    return typeof authenticationToken === 'string' ? authenticationToken : null
  } catch {
    return null // a link that somebody made up
  }
}

/** When a JSON Web Token ends. Only to ask for the next in time: whether it is good is for the service to say. */
function expiryOf(token: string): number {
  try {
    const claims = parsedJson(atob((token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/'))) as { exp?: unknown }
    return typeof claims.exp === 'number' ? claims.exp * 1000 : Infinity
  } catch {
    return Infinity
  }
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
  if (isDev) return { 'x-dev-user': devUser() }
  const token = usesToken ? sessionStorage.getItem(TOKEN_KEY) : null
  return token === null ? {} : { 'x-zumo-auth': token }
}

export function parsedUser(user: string): Identity {
  const [name = '', roles = ''] = user.split(';')
  return { name: name.trim(), roles: roles.split(',').map((role) => role.trim()).filter(Boolean) }
}

/** The caller as the service sees them; null when it does not say. */
export async function identity(api: Api): Promise<Identity | null> {
  if (isDev) return parsedUser(devUser())
  try {
    const { user_id, roles } = await api.get<Me>('/me')
    return { name: user_id, roles }
  } catch {
    return null // what it may not do, the service refuses all the same
  }
}
