// Bytes that a page loads, minified and compressed: of the whole package alone, and with what it depends on.
// Argument: the folder of the installed package; Vite is imported from the console's packages.

import { gzipSync } from 'node:zlib'
import { pathToFileURL } from 'node:url'

const [entry, vite] = process.argv.slice(2)
const { build } = await import(pathToFileURL(vite).href)

async function bytes(external) {
  const made = await build({
    configFile: false,
    logLevel: 'error',
    build: { write: false, minify: true, target: 'es2022', lib: { entry, formats: ['es'] }, rollupOptions: { external } },
  })
  const code = [made].flat().flatMap(({ output }) => output).map(({ code = '' }) => code).join('')
  return gzipSync(code, { level: 9 }).length
}

console.log(JSON.stringify({ alone: await bytes(['@microsoft/signalr']), all: await bytes([]) }))
