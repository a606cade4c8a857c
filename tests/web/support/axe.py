"""axe-core on a page of a real browser: what is in somebody's way."""

from __future__ import annotations

from playwright.sync_api import Page

from devtools.console import WEB

_AXE = (WEB / "node_modules" / "axe-core" / "axe.min.js").read_text


def barriers(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA, whatever impact it says that has."""
    page.evaluate(_AXE("utf-8") + "; undefined")
    found = page.evaluate(
        """async () => {
            const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']
            const { violations } = await axe.run(document, { runOnly: { type: 'tag', values: tags } })
            return violations.flatMap(({ id, nodes }) =>
                nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`))
        }"""
    )
    return [str(line) for line in found]
