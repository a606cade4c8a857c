// One SignalR connection for the whole page: joins the groups of open sessions and reconnects by itself.
//
// Invariant: after every (re)connection the groups are joined before listeners get `live`. A listener that then reads
// the missed events has no gap before the next live event. A group that could not be joined is tried again, and listeners
// get `live` once more when it is.

import {
  DefaultHttpClient,
  HttpTransportType,
  HubConnectionBuilder,
  JsonHubProtocol,
  LogLevel,
  NullLogger,
  type HttpRequest,
  type HttpResponse,
  type HubConnection,
  type HubMessage,
  type ILogger,
} from '@microsoft/signalr'
import { ApiError, type Api } from './api.js'
import { marked, unmarked } from './json.js'
import type { AccessChange, Envelope } from './models.js'

export type LiveState = 'connecting' | 'live' | 'reconnecting' | 'stopped'

export interface LiveListener {
  event?(event: Envelope): void
  /** The user was let into a session, may do more or less in it, or was taken out. */
  access?(change: AccessChange): void
  state?(state: LiveState): void
}

/** Sends the caller's headers only to the API: negotiation redirects the client to another service. */
class OwnHeaders extends DefaultHttpClient {
  constructor(private readonly api: Api) {
    super(NullLogger.instance)
  }

  override send(request: HttpRequest): Promise<HttpResponse> {
    const here = globalThis.location?.href
    const isOwn = new URL(request.url ?? '', here).href.startsWith(new URL(`${this.api.baseUrl}/`, here).href)
    return super.send(isOwn ? { ...request, headers: { ...request.headers, ...this.api.headers() } } : request)
  }
}

/** The JSON protocol with exact numbers. */
class ExactProtocol extends JsonHubProtocol {
  override parseMessages(input: string, logger: ILogger): HubMessage[] {
    return super.parseMessages(marked(input), logger)
  }
}

const PAUSES_MS = [0, 300, 1000, 2000, 3000]

// Approvers are in their role's group until the end of the day after they negotiated, so a page that stays open longer
// negotiates again.
const RENEW_MS = 6 * 3600 * 1000

export class Live {
  private state: LiveState = 'stopped'
  private connection: HubConnection | null = null
  private readonly listeners = new Set<LiveListener>()
  private readonly sessions = new Map<string, number>()
  /** Of each session the last change of its membership that was begun. */
  private readonly changes = new Map<string, Promise<unknown>>()
  private tries = 0
  private timer: ReturnType<typeof setTimeout> | null = null
  private renewal: ReturnType<typeof setInterval> | null = null
  private generation = 0

  constructor(private readonly api: Api) {}

  get current(): LiveState {
    return this.state
  }

  listen(listener: LiveListener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  start(): void {
    if (this.state !== 'stopped') return
    this.tell('connecting')
    this.renewal = setInterval(() => void this.renew(), RENEW_MS)
    if (typeof window !== 'undefined') {
      window.addEventListener('offline', this.lost)
      window.addEventListener('online', this.again)
    }
    void this.connect()
  }

  async stop(): Promise<void> {
    this.generation += 1
    if (this.timer !== null) clearTimeout(this.timer)
    if (this.renewal !== null) clearInterval(this.renewal)
    if (typeof window !== 'undefined') {
      window.removeEventListener('offline', this.lost)
      window.removeEventListener('online', this.again)
    }
    const connection = this.connection
    this.connection = null
    this.tell('stopped')
    await connection?.stop()
  }

  /** Receive a session's events from now on, also after reconnections. Call the result to stop. */
  async join(sessionId: string): Promise<() => Promise<void>> {
    const wanted = (this.sessions.get(sessionId) ?? 0) + 1
    this.sessions.set(sessionId, wanted)
    let left = false
    const leave = async (): Promise<void> => {
      if (left) return
      left = true
      const rest = (this.sessions.get(sessionId) ?? 1) - 1
      if (rest > 0) {
        this.sessions.set(sessionId, rest)
        return
      }
      this.sessions.delete(sessionId)
      // If this fails, the connection receives unneeded events until it ends.
      await this.membership(sessionId, 'unsubscribe').catch(() => undefined)
    }
    if (wanted === 1 && this.state === 'live') {
      try {
        if (!(await this.enter(sessionId))) this.enterLater(sessionId)
      } catch (error) {
        this.sessions.delete(sessionId)
        throw error
      }
    }
    return leave
  }

  /** Whether the connection is in the session's group now. Throws when the service refuses. */
  private async enter(sessionId: string): Promise<boolean> {
    try {
      const answer = await this.membership(sessionId, 'subscribe')
      return answer?.is_joined ?? true
    } catch (error) {
      if (error instanceof ApiError && error.isPassing) return false
      throw error
    }
  }

  private enterLater(sessionId: string, tries = 1): void {
    const generation = this.generation
    setTimeout(() => {
      // A new connection joins all groups before it is live.
      if (generation !== this.generation || !this.sessions.has(sessionId)) return
      this.enter(sessionId).then(
        (isJoined) => {
          if (!isJoined) this.enterLater(sessionId, tries + 1)
          else if (generation === this.generation) this.announce()
        },
        () => undefined, // it is refused now, as the session's feed reports
      )
    }, pauseMs(tries))
  }

  private async renew(): Promise<void> {
    // After a failure the next interval tries again, and a new connection negotiates anyway.
    if (this.state === 'live') await this.api.post('/realtime/negotiate').catch(() => undefined)
  }

  /** One after the other: a leave that overtook the join after it would silence the session. */
  private async membership(sessionId: string, verb: 'subscribe' | 'unsubscribe'): Promise<{ is_joined?: boolean } | undefined> {
    const before = this.changes.get(sessionId)
    const change = (async (): Promise<{ is_joined?: boolean } | undefined> => {
      await before?.catch(() => undefined)
      const id = this.connection?.connectionId
      if (id === null || id === undefined) return undefined
      // Who left has come back meanwhile.
      if (verb === 'unsubscribe' && this.sessions.has(sessionId)) return undefined
      return this.api.post(`/sessions/${encodeURIComponent(sessionId)}/${verb}`, { connection_id: id })
    })()
    this.changes.set(sessionId, change)
    try {
      return await change
    } finally {
      if (this.changes.get(sessionId) === change) this.changes.delete(sessionId)
    }
  }

  private async connect(): Promise<void> {
    const generation = (this.generation += 1)
    const connection = new HubConnectionBuilder()
      .withUrl(`${this.api.baseUrl}/realtime`, {
        httpClient: new OwnHeaders(this.api),
        transport: HttpTransportType.WebSockets,
        // Cookies only help with an API on this page's origin; another origin would have to allow them.
        withCredentials: new URL(this.api.baseUrl, globalThis.location?.href).origin === globalThis.location?.origin,
      })
      .withHubProtocol(new ExactProtocol())
      // Failures are reported through `state`; a page that waits for its server is not an error.
      .configureLogging(LogLevel.None)
      .build()
    connection.on('event', (told: unknown) => {
      const event = unmarked(told) as Envelope
      if (generation === this.generation) for (const listener of this.listeners) listener.event?.(event)
    })
    connection.on('access', (told: unknown) => {
      if (generation === this.generation) for (const listener of this.listeners) listener.access?.(unmarked(told) as AccessChange)
    })
    connection.onclose(() => {
      if (generation === this.generation) this.retry()
    })
    try {
      await connection.start()
      if (generation !== this.generation) {
        await connection.stop()
        return
      }
      this.connection = connection
      await Promise.all([...this.sessions.keys()].map((id) => this.rejoin(id)))
      if (generation !== this.generation) return
      this.tries = 0
      this.tell('live')
    } catch {
      if (generation !== this.generation) return
      this.generation += 1 // its onclose must not start a second round
      void connection.stop().catch(() => undefined)
      this.retry()
    }
  }

  private async rejoin(sessionId: string): Promise<void> {
    try {
      if (await this.enter(sessionId)) return
    } catch (error) {
      // 404: the session is deleted or not readable any more, as its feed reports. Other errors fail the connection.
      if ((error as { status?: number }).status === 404) return
      throw error
    }
    throw new Error(`the group of ${sessionId} was not joined`)
  }

  private retry(): void {
    this.connection = null
    this.tell('reconnecting')
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.connect(), pauseMs(this.tries))
    this.tries += 1
  }

  private readonly lost = (): void => {
    // A socket on a dead network looks alive for half a minute; the browser's event is faster.
    const connection = this.connection
    this.generation += 1
    this.connection = null
    if (this.timer !== null) clearTimeout(this.timer)
    this.tell('reconnecting')
    void connection?.stop().catch(() => undefined)
    this.tries = 1
    this.retry()
  }

  private readonly again = (): void => {
    if (this.state !== 'reconnecting') return
    this.tries = 0
    this.generation += 1
    this.retry()
  }

  private tell(state: LiveState): void {
    if (state === this.state) return
    this.state = state
    this.announce()
  }

  private announce(): void {
    for (const listener of this.listeners) listener.state?.(this.state)
  }
}

/** With jitter, so that not all clients come back to a restarted server at once. */
function pauseMs(tries: number): number {
  return (PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)] ?? 0) * (0.75 + Math.random() / 2)
}
