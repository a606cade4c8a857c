// A list with the newest items first, read page by page only as far back as needed.

import type { Api } from './api.js'
import type { Page } from './models.js'

export class Backwards<T> {
  private cursor: string | null | undefined
  private last: T | undefined

  constructor(
    private readonly api: Api,
    private readonly path: string,
    private readonly limit: number,
  ) {}

  /** Whether everything has been read. */
  get isAtEnd(): boolean {
    return this.cursor === null
  }

  /** The oldest item that was read. */
  get oldest(): T | undefined {
    return this.last
  }

  /** The next older page; the first call returns the newest. */
  async older(): Promise<T[]> {
    if (this.isAtEnd) return []
    const page: Page<T> = await this.api.get(this.path, { limit: this.limit, cursor: this.cursor })
    this.cursor = page.next_cursor
    this.last = page.items.at(-1) ?? this.last
    return page.items
  }
}
