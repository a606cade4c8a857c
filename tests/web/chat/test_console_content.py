"""What answers are made of: tables, code in colours that can be copied, formulas. The answer is untrusted input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.e2e.support.client import script
from tests.e2e.support.processes import AppHost
from tests.web.support.axe import barriers
from tests.web.support.browsing import Http, Visitor

pytestmark = pytest.mark.e2e

type Visit = Callable[..., Visitor]

_PROGRAM = 'def greet(name: str) -> str:\n    return f"<b>{name}</b>"  # 1 < 2 && 3\n'


def test_breaks_and_formulas_of_an_answer_are_shown(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Marks")
    table = "| a |\n| --- |\n| one<br>two |"
    formulas = "So \\(a_1 + b_1\\) and \\[ c \\] and \\[not\\], for $$x^2$$, not \\(\\href{https://example.com}{d}\\)."
    block = "\\[\nx = \\frac{a}{b}\n- c\n\\]"
    http.say(session_id, script(content=f"{table}\n\n{formulas}\n\n{block}\n\nIt costs $5 or $$6."))
    page = visit(parley).open("sessions", session_id)
    assert page.locator("td").inner_text() == "one\ntwo"
    log = page.get_by_role("log").locator(".message.assistant")
    expect(log.locator("math")).to_have_count(4)
    expect(log.locator(".formula mfrac")).to_be_visible()
    # A command that would name an address is shown as it is written.
    expect(log.locator(".markdown code")).to_have_text(["\\(\\href{https://example.com}{d}\\)"])
    expect(log.get_by_text("and [not]")).to_be_visible()
    expect(log.get_by_text("It costs $5 or $$6.")).to_be_visible()
    assert log.locator("math a, math [id], math [href]").count() == 0


def test_code_has_colours_a_language_and_a_button_that_copies_it(parley: AppHost, http: Http, visit: Visit) -> None:
    session_id = http.session("Program")
    drawing = "```mermaid\ngraph TD; A-->B\n```"
    http.say(session_id, script(content=f"Like this:\n\n```python\n{_PROGRAM}```\n\n{drawing}"))
    for scheme in ("light", "dark"):
        visitor = visit(parley, scheme=scheme)
        visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = visitor.open("sessions", session_id)
        block = page.get_by_role("log").locator("figure.code").first
        expect(block.locator(".hljs-keyword").first).to_have_text("def")
        assert block.locator("code").inner_text() == _PROGRAM.rstrip("\n")
        expect(block.locator("figcaption")).to_contain_text("python")
        assert float(block.locator("pre").evaluate("pre => parseFloat(getComputedStyle(pre).fontSize)")) >= 13
        assert barriers(page) == []
    block.get_by_role("button", name="Copy code").press("Enter")
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == _PROGRAM.rstrip("\n")
    # What can be drawn only by writing markup stays code.
    expect(page.locator("figure.code").last).to_contain_text("graph TD; A-->B")
