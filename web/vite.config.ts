import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { defineConfig, type Plugin } from 'vite'

/** Each asset once more as .gz: the platform that serves them compresses nothing by itself. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    generateBundle: {
      // After Vite has written into the parts which others they load.
      order: 'post',
      handler(_options, bundle) {
        for (const [name, file] of Object.entries(bundle)) {
          if (!/\.(js|css|svg)$/.test(name)) continue
          const source = file.type === 'chunk' ? file.code : file.source
          this.emitFile({ type: 'asset', fileName: `${name}.gz`, source: gzipSync(source, { level: 9 }) })
        }
      },
    },
  }
}

/** An asset under the name that its content gives it. */
function asset(name: string, source: string | Uint8Array): { fileName: string; source: string | Uint8Array } {
  const [, stem, kind] = /^(.+)\.(\w+)$/.exec(name) ?? []
  return { fileName: `assets/${stem}-${createHash('sha256').update(source).digest('base64url').slice(0, 8)}.${kind}`, source }
}

const icon = (name: string): ReturnType<typeof asset> => asset(name, readFileSync(new URL(`src/icons/${name}`, import.meta.url)))

/** What a browser needs to install the page: a manifest and icons. No service worker: nothing of the API may be kept. */
function installable(): Plugin {
  const icons = { small: icon('icon-192.png'), large: icon('icon-512.png'), maskable: icon('maskable-512.png'), apple: icon('apple-180.png') }
  const about = {
    id: '/',
    name: 'Parley',
    short_name: 'Parley',
    description: 'Conversations with agents, and what waits for your approval.',
    start_url: '/',
    scope: '/',
    display: 'standalone',
    background_color: '#faf8f4',
    theme_color: '#2f5d62',
    icons: [
      { src: `/${icons.small.fileName}`, sizes: '192x192', type: 'image/png', purpose: 'any' },
      { src: `/${icons.large.fileName}`, sizes: '512x512', type: 'image/png', purpose: 'any' },
      { src: `/${icons.maskable.fileName}`, sizes: '512x512', type: 'image/png', purpose: 'maskable' },
    ],
  }
  const manifest = asset('app.webmanifest', JSON.stringify(about))
  return {
    name: 'installable',
    apply: 'build',
    generateBundle() {
      for (const file of [manifest, ...Object.values(icons)]) this.emitFile({ type: 'asset', ...file })
    },
    transformIndexHtml: () => [
      // With credentials: the platform may ask for a sign-in before every file.
      { tag: 'link', attrs: { rel: 'manifest', href: `/${manifest.fileName}`, crossorigin: 'use-credentials' }, injectTo: 'head' },
      { tag: 'link', attrs: { rel: 'apple-touch-icon', href: `/${icons.apple.fileName}` }, injectTo: 'head' },
    ],
  }
}

export default defineConfig({
  base: '/',
  plugins: [installable(), compressed()],
  build: {
    target: 'es2022',
    // The first with light-dark(), which is not to be rewritten for others.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    // Nothing may become a data: URL: the page's policy would refuse it.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { '/api': 'http://localhost:7071' } },
})
