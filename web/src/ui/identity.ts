// The user of the console. In Azure the platform identifies them; in development callers name themselves.
//
// If the API has another origin than this page, the platform's cookie is not sent. Its sign-in then returns a token in
// the URL fragment, which no server sees; the token is stored for this tab only and sent as a header.
//
// Anybody can make a link with a token of their own in it, and whoever follows it would then act as them. So a sign-in
// begins with a random state, kept for this tab and sent along in the return address; a token is taken only with it.

import { parsedJson, type Api, type Me } from '../client'
import { forgetDrafts } from './chat/drafts'

const USER_KEY = 'parley.user'
const TOKEN_KEY = 'parley.token'
const PLACE_KEY = 'parley.place'
const STATE_KEY = 'parley.state'
export const DEV_DEFAULT = 'dev;approver,admin'

function fact(name: string): string {
  return document.querySelector(`meta[name="parley-${name}"]`)?.getAttribute('content') ?? ''
}

export const isDev = fact('auth') === 'dev'
/** Origin of the API; empty: this page's origin. */
export const apiOrigin = fact('api')
const usesToken = !isDev && apiOrigin !== ''

export interface Identity {
  name: string
  roles: string[]
}

const REFUSED =
  'A sign-in that was not started in this tab was refused. If you followed a link, it may have been meant to sign you in as somebody else.'

/** Remove the result of a sign-in from the URL, before anything reads the URL. Returns why it was refused, or null. */
export function arrive(): string | null {
  const brought = /^#token=(.*)$/s.exec(window.location.hash)?.[1]
  if (brought === undefined) return null
  const given = new URLSearchParams(window.location.search).get('state')
  const started = taken(STATE_KEY)
  const isOurs = usesToken && started !== null && given === started
  window.history.replaceState(null, '', window.location.pathname + (isOurs ? (taken(PLACE_KEY) ?? '') : ''))
  const token = isOurs ? tokenOf(brought) : null
  if (token === null) return usesToken ? REFUSED : null
  sessionStorage.setItem(TOKEN_KEY, token)
  return null
}

/** A value of this tab that is used once. */
function taken(key: string): string | null {
  const value = sessionStorage.getItem(key)
  sessionStorage.removeItem(key)
  return value
}

/** How long the caller stays signed in, in milliseconds; null: not signed in. */
export function signedInFor(now = Date.now()): number | null {
  if (!usesToken) return Infinity
  const token = sessionStorage.getItem(TOKEN_KEY)
  if (token === null) return null
  const until = expiryOf(token)
  return until > now ? until - now : null
}

export function signIn(): void {
  const state = Array.from(crypto.getRandomValues(new Uint8Array(32)), (byte) => byte.toString(16).padStart(2, '0')).join('')
  sessionStorage.setItem(STATE_KEY, state)
  sessionStorage.setItem(PLACE_KEY, window.location.hash)
  // The platform compares a return address with those it allows without its query.
  const back = encodeURIComponent(`${window.location.origin}?state=${state}`)
  window.location.assign(`${apiOrigin}/.auth/login/aad?session_mode=token&post_login_redirect_url=${back}`)
}

/** Sign out of this page only: the platform's token stays valid until it expires. Null when there is no token. */
export const signOut = usesToken
  ? (): void => {
      sessionStorage.removeItem(TOKEN_KEY)
      forgetDrafts()
      window.location.reload()
    }
  : null

function tokenOf(brought: string): string | null {
  try {
    const { authenticationToken } = parsedJson(decodeURIComponent(brought)) as { authenticationToken?: unknown }
    return typeof authenticationToken === 'string' ? authenticationToken : null
  } catch {
    return null // not the platform's answer
  }
}

/** When a JSON Web Token expires. Only used to renew it in time; the service validates it. */
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

/** Switch to another user; the page reloads, so that no data of the former user stays. */
export function becomeDevUser(user: string): void {
  localStorage.setItem(USER_KEY, user)
  forgetDrafts()
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

/** The caller as the service sees them; null when unknown. */
export async function identity(api: Api): Promise<Identity | null> {
  if (isDev) return parsedUser(devUser())
  try {
    const { user_id, roles } = await api.get<Me>('/me')
    return { name: user_id, roles }
  } catch {
    return null // the service authorises every request anyway
  }
}
