import { describe, expect, it } from 'vitest'
import { Api } from '../src/client'

describe('a list read up to a number', () => {
  const asked: string[] = []
  const api = new Api({
    baseUrl: 'http://service',
    fetch: async (input) => {
      const { searchParams } = new URL(String(input))
      const [from, limit] = [Number(searchParams.get('cursor')), Number(searchParams.get('limit'))]
      asked.push(`${from}+${limit}`)
      const items = Array.from({ length: Math.min(limit, 450 - from) }, (_, index) => from + index)
      return new Response(JSON.stringify({ items, next_cursor: from + limit < 450 ? String(from + limit) : null }))
    },
  })

  it.each([
    { count: 60, pages: ['0+60'], last: 59, hasMore: true },
    { count: 300, pages: ['0+200', '200+100'], last: 299, hasMore: true },
    { count: 1000, pages: ['0+200', '200+200', '400+200'], last: 449, hasMore: false },
  ])('of $count asks for no more than that', async ({ count, pages, last, hasMore }) => {
    asked.length = 0
    const page = await api.upTo<number>('/things', {}, count)
    expect(asked).toEqual(pages)
    expect(page.items.at(-1)).toBe(last)
    expect(page.items).toHaveLength(last + 1)
    expect(page.next_cursor !== null).toBe(hasMore)
  })
})

it('what the service says of a field is said once', async () => {
  const problem = { code: 'VALIDATION_ERROR', status: 422, detail: 'config.effort: not taken.', errors: [{ field: 'config.effort', message: 'not taken' }, { field: 'name', message: 'too long' }] }
  const api = new Api({ fetch: async () => new Response(JSON.stringify(problem), { status: 422 }) })
  await expect(api.get('/things')).rejects.toThrow('config.effort: not taken. name: too long')
})
