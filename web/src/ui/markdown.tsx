// Markdown as elements. Each token of the parser becomes a node; HTML is never inserted.
//
// Invariants: markup in the text is shown as text, but for line breaks; an image is never loaded; a link leads only to http(s) or mailto,
// and its target is shown beside its text. Code and formulas are made of elements, too (`content/`).

import { Marked, type Token, type Tokens } from 'marked'
import type { ComponentChildren, JSX } from 'preact'
import { Code } from './content/code'
import { Formula } from './content/formula'
import { memo } from './memo'

/** Formulas as models write them: `\\(a\\)`, `\\[ a \\]` and `$$a$$`. Markdown would take their
 * backslashes. Bounded, so that many beginnings without an end are not each looked for to the end of the text. */
const INLINE = /^(?:\\\((.{1,4000}?)\\\)|\\\[(\s[^]{1,4000}?)\\\]|\$\$([^$\n][^$]{0,4000}?)\$\$)/
/** In lines of their own, where `-` and `#` in them begin neither a list nor a heading. */
const BLOCK = /^ {0,3}(?:\\\[([^]{1,4000}?)\\\]|\$\$([^$]{1,4000}?)\$\$)[ \t]*(?:\n+|$)/

interface FormulaToken extends Tokens.Generic {
  tex: string
  isBlock: boolean
}

function formula(type: string, raw: string, texts: readonly (string | undefined)[], isBlock: boolean): FormulaToken {
  return { type, raw, tex: texts.find((text) => text !== undefined)?.trim() ?? '', isBlock }
}

const markdown = new Marked({
  gfm: true,
  extensions: [
    {
      name: 'formula-block',
      level: 'block',
      start: (text) => /(?<=\n) {0,3}(?:\\\[|\$\$)/.exec(text)?.index,
      tokenizer: (text) => {
        const found = BLOCK.exec(text)
        return found === null ? undefined : formula('formula-block', found[0], found.slice(1), true)
      },
    },
    {
      name: 'formula',
      level: 'inline',
      start: (text) => text.search(/\\[([]|\$\$/),
      tokenizer: (text) => {
        const found = INLINE.exec(text)
        return found === null ? undefined : formula('formula', found[0], found.slice(1), found[1] === undefined)
      },
    },
  ],
})

export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <div class="markdown">
      {markdown.lexer(text).map((token, index) => (
        // Keyed by position: while an answer streams, only its last block changes.
        <Block key={index} raw={token.raw} token={token} />
      ))}
    </div>
  )
})

/** A block that re-renders only when its source changes. */
const Block = memo(
  function Block({ token }: { raw: string; token: Token }) {
    return <>{block(token, 0)}</>
  },
  ['raw'],
)

function block(token: Token, key: number): ComponentChildren {
  switch (token.type) {
    case 'space':
    case 'def':
      return null
    case 'heading': {
      // The page's own headings are above these.
      const Tag = `h${Math.min(6, (token as Tokens.Heading).depth + 2)}` as 'h3'
      return <Tag key={key}>{inline(token)}</Tag>
    }
    case 'code':
      return <Code key={key} text={(token as Tokens.Code).text} language={(token as Tokens.Code).lang ?? ''} />
    case 'formula-block':
      return <p key={key}>{formulaOf(token, 0)}</p>
    case 'hr':
      return <hr key={key} />
    case 'blockquote':
      return <blockquote key={key}>{(token as Tokens.Blockquote).tokens.map(block)}</blockquote>
    case 'list':
      return list(token as Tokens.List, key)
    case 'table':
      return table(token as Tokens.Table, key)
    case 'paragraph':
      return <p key={key}>{inline(token)}</p>
    case 'html':
      return <p key={key}>{token.raw.trimEnd()}</p>
    case 'text':
      return (token as Tokens.Text).tokens === undefined ? <p key={key}>{decoded(token.raw)}</p> : inline(token)
    default:
      return <p key={key}>{token.raw}</p>
  }
}

function list(token: Tokens.List, key: number): JSX.Element {
  const items = token.items.map((item, index) => (
    <li key={index} class={item.task ? 'task' : undefined}>
      {item.tokens.map((part, place) =>
        part.type === 'checkbox' ? (
          <span key={place}>{item.checked === true ? '☑ ' : '☐ '}</span>
        ) : part.type === 'text' && !token.loose ? (
          <span key={place}>{inline(part)}</span>
        ) : (
          block(part, place)
        ),
      )}
    </li>
  ))
  if (!token.ordered) return <ul key={key}>{items}</ul>
  return (
    <ol key={key} start={token.start === '' ? 1 : token.start}>
      {items}
    </ol>
  )
}

function table(token: Tokens.Table, key: number): JSX.Element {
  const aligned = (index: number): string | undefined => {
    const side = token.align[index]
    return side === 'right' || side === 'center' ? `align-${side}` : undefined
  }
  return (
    <div class="scroll" key={key} tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>
            {token.header.map((cell, index) => (
              <th key={index} class={aligned(index)}>
                {cell.tokens.map(part)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {token.rows.map((row, place) => (
            <tr key={place}>
              {row.map((cell, index) => (
                <td key={index} class={aligned(index)}>
                  {cell.tokens.map(part)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function inline(token: Token): ComponentChildren {
  const tokens = (token as { tokens?: Token[] }).tokens
  return tokens === undefined ? decoded(token.raw) : tokens.map(part)
}

function part(token: Token, key: number): ComponentChildren {
  switch (token.type) {
    case 'strong':
      return <strong key={key}>{inline(token)}</strong>
    case 'em':
      return <em key={key}>{inline(token)}</em>
    case 'del':
      return <del key={key}>{inline(token)}</del>
    case 'codespan':
      return <code key={key}>{(token as Tokens.Codespan).text}</code>
    case 'br':
      return <br key={key} />
    case 'formula':
      return formulaOf(token, key)
    case 'html':
      return /^<br *\/?>$/i.test(token.raw) ? <br key={key} /> : token.raw
    case 'escape':
      return (token as Tokens.Escape).text
    case 'link':
      return <Link key={key} href={(token as Tokens.Link).href}>{inline(token)}</Link>
    case 'image': {
      const { href, text } = token as Tokens.Image
      return <Link key={key} href={href}>{`[image: ${text === '' ? 'no description' : text}]`}</Link>
    }
    case 'text':
      return (token as Tokens.Text).tokens === undefined ? decoded((token as Tokens.Text).text) : inline(token)
    default:
      // HTML and unknown tokens are shown as they were written.
      return token.raw
  }
}

function formulaOf(token: Token, key: number): JSX.Element {
  const { raw, tex, isBlock } = token as FormulaToken
  return <Formula key={key} raw={raw} tex={tex} isBlock={isBlock} />
}

function Link({ href, children }: { href: string; children: ComponentChildren }) {
  const target = decoded(href)
  const safe = safeTarget(target)
  const words = plainText(children)
  if (safe === null) {
    return (
      <span class="no-link">
        {children} <code>{target}</code>
      </span>
    )
  }
  const isItself = words === target || `http://${words}` === target || `mailto:${words}` === target
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer nofollow">
      {children}
      {isItself ? null : (
        <>
          {' '}
          <span class="target">{safe}</span>
        </>
      )}
    </a>
  )
}

/** A safe link target, or null. */
export function safeTarget(href: string): string | null {
  let url: URL
  try {
    url = new URL(href)
  } catch {
    return null // relative: it would point into this console
  }
  return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null
}

function plainText(children: ComponentChildren): string {
  if (typeof children === 'string') return children
  return Array.isArray(children) ? children.map(plainText).join('') : ''
}

const ENTITIES: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' }

/** Replace HTML entities by their characters, as Markdown does. */
function decoded(text: string): string {
  if (!text.includes('&')) return text
  return text.replace(/&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|(\w{2,5}));/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return ENTITIES[String(name).toLowerCase()] ?? String(whole)
    const point = decimal !== undefined ? Number(decimal) : parseInt(String(hex), 16)
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : String(whole)
  })
}
