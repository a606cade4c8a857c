import { render } from 'preact'
import { App } from './ui/app'
import { arrive } from './ui/identity'
import './ui/style.css'
import './ui/content/content.css'
import './ui/start/start.css'
import './ui/chat/chat.css'

const theme = localStorage.getItem('parley.theme')
if (theme === 'light' || theme === 'dark') document.documentElement.dataset['theme'] = theme

const refused = arrive()
// A link with a token, followed in a page that is open, does not load it again.
window.addEventListener('hashchange', () => {
  if (window.location.hash.startsWith('#token=')) window.location.reload()
})
render(<App refused={refused} />, document.getElementById('app')!)
