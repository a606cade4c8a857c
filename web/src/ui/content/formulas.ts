// Loaded with the first formula: TeX to a tree of MathML, which the browser sets by itself, without fonts and style sheets.

import temml from 'temml'

/** An element of MathML or a text. */
export type Node = string | { tag: string; attributes: Record<string, string>; style: Record<string, string>; children: Node[] }

const TAGS: ReadonlySet<string> = new Set(
  'math semantics mrow mi mn mo mtext ms mspace mfrac msqrt mroot mstyle mpadded mphantom menclose msub msup msubsup munder mover munderover mmultiscripts mprescripts none mtable mtr mtd'.split(' '),
)
/** None of them names an address, an id or a script. */
const ATTRIBUTES: ReadonlySet<string> = new Set(
  'accent accentunder columnalign columnlines columnspacing columnspan depth dir display displaystyle fence form frame height largeop linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits notation rowlines rowspacing rowspan rspace scriptlevel separator stretchy symmetric voffset width'.split(' '),
)
const STYLES: ReadonlySet<string> = new Set(
  'color backgroundColor border borderTop borderBottom borderLeft borderRight fontWeight fontStyle mathStyle mathDepth padding paddingLeft paddingRight paddingTop paddingBottom textAlign width verticalAlign'.split(' '),
)
const CLASS = /^(?:tml-[a-z-]+|math(?:cal|scr|bb|frak))$/

const OPTIONS = { throwOnError: true, strict: false, trust: false, maxExpand: 200, maxSize: [20, 20] as [number, number] }

/** The formula; null: it is not TeX, or has in it what is not shown. */
export function mathOf(tex: string, isBlock: boolean): Node | null {
  try {
    return inert(temml.__renderToMathMLTree(tex, { ...OPTIONS, displayMode: isBlock }) as Made)
  } catch {
    // Half a formula, a command that there is not, or one that would load something.
    return null
  }
}

interface Made {
  type?: string
  text?: string
  attributes?: Record<string, unknown>
  classes?: readonly string[]
  style?: Record<string, unknown>
  children?: readonly Made[]
}

/** Raises for what is no formula. */
function inert(made: Made): Node {
  if (typeof made.text === 'string' && made.children === undefined) return made.text
  const children = (made.children ?? []).map(inert)
  // A fragment has no tag.
  const tag = made.type ?? 'mrow'
  if (!TAGS.has(tag)) throw new Error(`not shown: ${tag}`)
  const attributes = kept(made.attributes, ATTRIBUTES)
  const classes = (made.classes ?? []).filter((name) => CLASS.test(name))
  return { tag, attributes: classes.length === 0 ? attributes : { ...attributes, class: classes.join(' ') }, style: kept(made.style, STYLES), children }
}

function kept(values: Record<string, unknown> | undefined, names: ReadonlySet<string>): Record<string, string> {
  const given = Object.entries(values ?? {}).filter(([name, value]) => names.has(name) && value !== undefined && value !== null)
  return Object.fromEntries(given.map(([name, value]) => [name, String(value).replace(/url\(|expression\(/gi, '')]))
}
