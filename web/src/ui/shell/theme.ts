// Light or dark: what somebody chose, else what their system says.

const KEY = 'parley.theme'
/** Of the browser's own bars: the page's edge. The same as in index.html. */
const EDGES = { light: '#f1ede5', dark: '#121516' } as const

type Theme = keyof typeof EDGES

function show(theme: Theme): void {
  document.documentElement.dataset['theme'] = theme
  for (const meta of document.querySelectorAll<HTMLMetaElement>('meta[name="theme-color"]')) meta.content = EDGES[theme]
}

/** As it was chosen on this machine, if it was. */
export function showChosenTheme(): void {
  const theme = localStorage.getItem(KEY)
  if (theme === 'light' || theme === 'dark') show(theme)
}

export function toggleTheme(): void {
  const { theme: shown } = document.documentElement.dataset
  const isDark = shown === 'dark' || (shown === undefined && matchMedia('(prefers-color-scheme: dark)').matches)
  const theme = isDark ? 'light' : 'dark'
  show(theme)
  localStorage.setItem(KEY, theme)
}
