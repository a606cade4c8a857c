// Requests to the API. Every failure is an ApiError with the wire contract's code, or OFFLINE when the service cannot
// be reached.

import { jsonText, parsedJson } from './json.js'
import type { EventPage, Page, Problem } from './models.js'

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly problem: Problem | null = null,
  ) {
    super(detail)
    this.name = 'ApiError'
  }

  /** Whether the same request may succeed a little later. */
  get isPassing(): boolean {
    return this.code === 'OFFLINE' || this.status === 429 || this.status >= 502
  }
}

export interface ApiOptions {
  /** Where the API is, without a slash at its end; by default this page's own origin. */
  baseUrl?: string
  /** Headers of every request, computed each time, since the caller may change. */
  headers?: () => Record<string, string>
  fetch?: typeof fetch
}

export type Query = Record<string, string | number | null | undefined>

/** Largest page size of the service. */
const MOST_OF_A_PAGE = 200

export class Api {
  readonly baseUrl: string
  readonly headers: () => Record<string, string>
  private readonly send: typeof fetch

  constructor(options: ApiOptions = {}) {
    this.baseUrl = `${options.baseUrl ?? ''}/api/v1`
    this.headers = options.headers ?? (() => ({}))
    this.send = options.fetch ?? ((input, init) => fetch(input, init))
  }

  get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
    return this.request<T>('GET', path + queryString(query), undefined, {}, signal)
  }

  post<T>(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
    return this.request<T>('POST', path, body, headers)
  }

  /** A value with its ETag, for `If-Match`; null when a page of another origin may not read it. */
  async tagged<T>(path: string): Promise<{ value: T; etag: string | null }> {
    const response = await this.raw('GET', path, undefined)
    return { value: parsedJson(await response.text()) as T, etag: response.headers.get('etag') }
  }

  put<T>(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
    return this.request<T>('PUT', path, body, headers)
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.request<T>('PATCH', path, body)
  }

  delete(path: string): Promise<void> {
    return this.request<void>('DELETE', path)
  }

  /** Every item of a list, page by page, at most `most` items. */
  async all<T>(path: string, query: Query = {}, most = 1000): Promise<T[]> {
    return (await this.upTo<T>(path, query, most)).items
  }

  /** The first `count` items of a list as one page. */
  async upTo<T>(path: string, query: Query, count: number): Promise<Page<T>> {
    const items: T[] = []
    let cursor: string | null = null
    do {
      const limit = Math.min(count - items.length, MOST_OF_A_PAGE)
      const page: Page<T> = await this.get(path, { ...query, limit, cursor })
      items.push(...page.items)
      cursor = page.next_cursor
    } while (cursor !== null && items.length < count)
    return { items, next_cursor: cursor }
  }

  events(sessionId: string, after: number, limit = 200): Promise<EventPage> {
    return this.get(`/sessions/${encodeURIComponent(sessionId)}/events`, { after, limit })
  }

  /** The content of a file. */
  async blob(path: string): Promise<Blob> {
    return (await this.raw('GET', path, undefined)).blob()
  }

  private async request<T>(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<T> {
    const response = await this.raw(method, path, body, headers, signal)
    if (response.status === 204) return undefined as T
    return parsedJson(await response.text()) as T
  }

  private async raw(
    method: string,
    path: string,
    body: unknown,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    const isForm = body instanceof FormData
    let response: Response
    try {
      response = await this.send(this.baseUrl + path, {
        method,
        headers: {
          // With a custom header, browsers send this from another site's page only after a CORS preflight.
          ...(method === 'GET' ? {} : { 'x-requested-with': 'parley' }),
          ...this.headers(),
          ...headers,
          ...(body === undefined || isForm ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: isForm ? body : jsonText(body) }),
        ...(signal === undefined ? {} : { signal }),
        credentials: 'same-origin',
      })
    } catch (error) {
      if (error instanceof DOMException && error.name === 'AbortError') throw error
      throw new ApiError(0, 'OFFLINE', 'The service cannot be reached.')
    }
    if (!response.ok) throw await failure(response)
    return response
  }
}

async function failure(response: Response): Promise<ApiError> {
  let problem: Problem | null = null
  try {
    problem = parsedJson(await response.text()) as Problem
  } catch {
    // A proxy answered, not the service; its text is not useful.
  }
  if (problem === null || typeof problem.code !== 'string') {
    return new ApiError(response.status, 'HTTP', `The service answered ${response.status}.`)
  }
  const said = problem.detail
  const fields = (problem.errors ?? []).filter(({ message }) => !said.includes(message)).map(({ field, message }) => `${field}: ${message}`)
  return new ApiError(response.status, problem.code, fields.length > 0 ? `${said} ${fields.join('; ')}` : said, problem)
}

function queryString(query: Query): string {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== '')
  if (given.length === 0) return ''
  return `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()}`
}
