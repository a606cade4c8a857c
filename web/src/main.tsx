import { render } from 'preact'
import { App } from './ui/app'
import { arrive } from './ui/identity'
import './ui/style.css'

const theme = localStorage.getItem('parley.theme')
if (theme === 'light' || theme === 'dark') document.documentElement.dataset['theme'] = theme

arrive()
render(<App />, document.getElementById('app')!)
