// Loaded with the first block of code: which words of a program are of which kind. The grammars give a tree, never HTML.

import { createLowlight } from 'lowlight'
import bash from 'highlight.js/lib/languages/bash'
import c from 'highlight.js/lib/languages/c'
import cpp from 'highlight.js/lib/languages/cpp'
import csharp from 'highlight.js/lib/languages/csharp'
import css from 'highlight.js/lib/languages/css'
import diff from 'highlight.js/lib/languages/diff'
import dockerfile from 'highlight.js/lib/languages/dockerfile'
import go from 'highlight.js/lib/languages/go'
import http from 'highlight.js/lib/languages/http'
import ini from 'highlight.js/lib/languages/ini'
import java from 'highlight.js/lib/languages/java'
import javascript from 'highlight.js/lib/languages/javascript'
import json from 'highlight.js/lib/languages/json'
import kotlin from 'highlight.js/lib/languages/kotlin'
import markdown from 'highlight.js/lib/languages/markdown'
import php from 'highlight.js/lib/languages/php'
import powershell from 'highlight.js/lib/languages/powershell'
import python from 'highlight.js/lib/languages/python'
import ruby from 'highlight.js/lib/languages/ruby'
import rust from 'highlight.js/lib/languages/rust'
import shell from 'highlight.js/lib/languages/shell'
import sql from 'highlight.js/lib/languages/sql'
import swift from 'highlight.js/lib/languages/swift'
import typescript from 'highlight.js/lib/languages/typescript'
import xml from 'highlight.js/lib/languages/xml'
import yaml from 'highlight.js/lib/languages/yaml'

const grammars = createLowlight({
  bash, c, cpp, csharp, css, diff, dockerfile, go, http, ini, java, javascript, json, kotlin, markdown, php, powershell, python, ruby, rust,
  shell, sql, swift, typescript, xml, yaml,
})

/** A part of a program; kind: '' or the classes of what it is. */
export interface Word {
  kind: string
  text: string
}

/** The program in parts, whose texts are the program; null: a language that is not known here. */
export function highlighted(text: string, language: string): Word[] | null {
  if (!grammars.registered(language)) return null
  const words: Word[] = []
  read(grammars.highlight(language, text).children, '', words)
  return words
}

interface Read {
  type: string
  value?: string
  properties?: { className?: unknown }
  children?: readonly object[]
}

function read(nodes: readonly object[], kind: string, words: Word[]): void {
  for (const node of nodes as readonly Read[]) {
    if (node.type === 'text') words.push({ kind, text: node.value ?? '' })
    else {
      const own = node.properties?.className
      read(node.children ?? [], Array.isArray(own) ? own.join(' ') : kind, words)
    }
  }
}
