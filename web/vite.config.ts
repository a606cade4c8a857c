import { gzipSync } from 'node:zlib'
import { defineConfig, type Plugin } from 'vite'

/** Each asset once more as .gz: the platform that serves them compresses nothing by itself. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    generateBundle: {
      // After Vite has written the names of the parts into the code that loads them.
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

export default defineConfig({
  base: '/',
  plugins: [compressed()],
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
