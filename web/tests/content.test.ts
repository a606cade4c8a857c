// What answers are made of beside text: code in colours, and formulas. Both come from untrusted input.

import { describe, expect, it } from 'vitest'
import { mathOf, type Node } from '../src/ui/content/formulas'
import { highlighted } from '../src/ui/content/highlight'

const PROGRAM = `def greet(name: str) -> str:  # <b>bold</b>\n    return f"Hello, {name}\u2028!" + '<script>'\n`

function tags(node: Node): string[] {
  return typeof node === 'string' ? [] : [node.tag, ...node.children.flatMap(tags)]
}

function attributes(node: Node): string[] {
  return typeof node === 'string' ? [] : [...Object.keys(node.attributes), ...node.children.flatMap(attributes)]
}

describe('code', () => {
  it('is in colours what was written', () => {
    for (const language of ['python', 'ts', 'html', 'bash', 'c++', 'json', 'sql', 'yaml', 'diff']) {
      const words = highlighted(PROGRAM, language)
      expect(words?.map(({ text }) => text).join(''), language).toBe(PROGRAM)
    }
    expect(highlighted(PROGRAM, 'python')).toContainEqual({ kind: 'hljs-keyword', text: 'def' })
  })

  it('of an unknown language is left alone', () => {
    for (const language of ['', 'mermaid', 'nothing', 'constructor', '__proto__', 'toString']) expect(highlighted(PROGRAM, language)).toBeNull()
  })
})

describe('a formula', () => {
  it('becomes MathML', () => {
    const made = mathOf('\\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}', true)
    expect(tags(made!)).toEqual(expect.arrayContaining(['math', 'mfrac', 'msqrt', 'msup']))
    expect(tags(mathOf('\\begin{pmatrix}1 & 0\\\\0 & 1\\end{pmatrix}', false)!)).toContain('mtable')
  })

  it('is shown as it is written when it is none', () => {
    for (const tex of ['\\frac{1', '\\nosuchcommand', '}', '\\begin{cases} a']) expect(mathOf(tex, false), tex).toBeNull()
  })

  it('never names an address, an id or a class of the page', () => {
    const hostile = [
      '\\href{javascript:alert(1)}{x}',
      '\\url{https://example.com}',
      '\\includegraphics{https://example.com/a.png}',
      '\\htmlId{main}{x}',
      '\\class{primary}{x}',
      '\\style{background: url(https://example.com)}{x}',
      '\\htmlData{a=b}{x}',
      'a \\label{main} \\ref{main}',
    ]
    for (const tex of hostile) {
      const made = mathOf(tex, true)
      if (made === null) continue
      expect(tags(made), tex).not.toEqual(expect.arrayContaining(['a']))
      expect(attributes(made).filter((name) => /^(on|id$|href$|src$|data)/.test(name)), tex).toEqual([])
      expect(JSON.stringify(made), tex).not.toMatch(/"class":"[^"]*primary|url\(/)
    }
  })

  it('of a macro that never ends is given up', () => {
    expect(mathOf('\\def\\a{\\a\\a}\\a', false)).toBeNull()
    expect(mathOf('\\def\\__proto__{x} \\gdef\\constructor{y} z', false)).not.toBe(undefined)
    expect(({} as Record<string, unknown>)['x']).toBeUndefined()
  })
})
