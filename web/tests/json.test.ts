import { describe, expect, it } from 'vitest'
import { Api } from '../src/client/api'
import { ExactNumber, jsonText, marked, parsedJson, unmarked } from '../src/client/json'

const NUMBERS = '{"whole":9007199254740993,"negative":-18446744073709551616,"long":0.1000000000000000055,"kept":[1.0,1e5,-0,1E+2,5,-7.25]}'

describe('numbers that a double cannot keep', () => {
  it('are written again digit for digit', () => {
    expect(jsonText(parsedJson(NUMBERS, true))).toBe(NUMBERS)
    expect(jsonText(parsedJson('[9007199254740993]', true), 2)).toBe('[\n  9007199254740993\n]')
  })

  it('show their digits as text, and the others stay numbers', () => {
    const { whole, kept } = parsedJson(NUMBERS, true) as { whole: unknown; kept: unknown[] }
    expect(String(whole)).toBe('9007199254740993')
    expect(kept.map((value) => value instanceof ExactNumber)).toEqual([true, true, true, true, false, false])
  })

  it('are kept only where a tool or a person may write anything: the rest of the wire is numbers', () => {
    const call = parsedJson('{"seq":1.0,"data":{"arguments":{"n":1.0},"result":[{"deep":1.0}]},"far":1e400}')
    expect(call).toEqual({
      seq: 1,
      data: { arguments: { n: new ExactNumber('1.0') }, result: [{ deep: new ExactNumber('1.0') }] },
      far: Infinity,
    })
  })

  it('stay text inside of text, whatever stands beside them', () => {
    const texts = ['9007199254740993', 'a "1.0" \\ 1.0', '\\" 1.0', 'mark:1.0', '\u2028 1.0 \u0000', '{"n":1.0}']
    const text = JSON.stringify({ arguments: texts })
    expect(marked(text)).toBe(text)
    expect(parsedJson(text)).toEqual({ arguments: texts })
    const mixed = `{"arguments":[${texts.map((one) => `${JSON.stringify(one)},1.0`).join(',')}]}`
    expect(jsonText(parsedJson(mixed))).toBe(mixed)
  })

  it('hinder no field of any name', () => {
    const text = '{"arguments":{"__proto__":{"n":1.0},"constructor":1.0,"toJSON":1.0}}'
    expect(jsonText(parsedJson(text))).toBe(text)
    expect(({} as Record<string, unknown>)['n']).toBe(undefined)
  })

  it('do not make wrong JSON right', () => {
    for (const text of ['{"n":01}', '{"n":01.0}', '[1.]', '[.50]', '[+1.0]', '[1.0', '1.0 1.0', '[NaN1.0]', '["\u0001", 1.0]', '{1.0: 1}']) {
      expect(() => parsedJson(text, true)).toThrow(SyntaxError)
    }
    expect(() => parsedJson('[1.0, oops]', true)).toThrow(/oops|token/)
  })

  it('take long texts', () => {
    const text = JSON.stringify({ arguments: { long: 'a"\\\n1.0'.repeat(1_000_000) } })
    expect(parsedJson(text.replace('{', '{"n":1.0,'))).toMatchObject({ n: 1 })
  })
})

it('the API client gives and sends them unrounded, and an event carries them', async () => {
  const sent: string[] = []
  const api = new Api({
    fetch: async (_, init) => {
      sent.push(String(init?.body))
      return new Response('{"arguments":{"id":9007199254740993},"limit":2.0}')
    },
  })
  const got = await api.post<{ arguments: Record<string, unknown>; limit: number }>('/decide', parsedJson('{"id":9007199254740995}', true))
  expect(sent).toEqual(['{"id":9007199254740995}'])
  expect([String(got.arguments['id']), got.limit]).toEqual(['9007199254740993', 2])
  const event: unknown = unmarked(JSON.parse(marked('{"seq":3,"data":{"approval":{"arguments":{"id":9007199254740993}}}}')))
  expect(jsonText(event)).toContain('"id":9007199254740993')
})
