// The approver's inbox, live. An event only triggers a read; the shown data always comes from the API.

import { ApiError, type Api, type Approval, type Live } from '../../client'

const SOON_MS = 150
const POLL_MS = 5_000

export interface InboxState {
  pending: Approval[]
  isLoaded: boolean
  error: ApiError | null
}

export class Inbox {
  private state: InboxState = { pending: [], isLoaded: false, error: null }
  private readonly listeners = new Set<(state: InboxState) => void>()
  private timer: ReturnType<typeof setTimeout> | null = null
  private reads = 0
  private stopListening: (() => void) | null = null

  constructor(
    private readonly api: Api,
    private readonly live: Live,
  ) {}

  get current(): InboxState {
    return this.state
  }

  start(): void {
    this.stopListening = this.live.listen({
      event: ({ type }) => {
        const isOfCall = type.startsWith('tool_call.') && type !== 'tool_call.progress'
        if (isOfCall || type === 'stream.ended') this.soon(SOON_MS)
      },
      state: () => this.soon(SOON_MS),
    })
    this.soon(0)
  }

  stop(): void {
    this.stopListening?.()
    this.stopListening = null
    if (this.timer !== null) clearTimeout(this.timer)
  }

  subscribe(listener: (state: InboxState) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  soon(pauseMs: number): void {
    if (this.timer !== null) clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.load(), pauseMs)
  }

  private async load(): Promise<void> {
    this.timer = null
    const read = ++this.reads
    try {
      const pending = await this.api.all<Approval>('/approvals', { status: 'pending' })
      // What was asked for earlier, and answered later, is older.
      if (read === this.reads) this.tell({ pending, isLoaded: true, error: null })
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (read === this.reads) this.tell({ ...this.state, error })
    }
    // Without a live connection, poll.
    if (this.live.current !== 'live' && this.timer === null && this.stopListening !== null) this.timer = setTimeout(() => void this.load(), POLL_MS)
  }

  private tell(state: InboxState): void {
    this.state = state
    for (const listener of this.listeners) listener(state)
  }
}
