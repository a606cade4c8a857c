"""Secrets of tools: read by name, declared before, and in nothing that is written down."""

from __future__ import annotations

import base64
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote

import pytest

from parley.tools import ToolContext, ToolFailed, ToolFile, ToolOutput, ToolRefused, tool
from shared.sessions.tools.base import Tool, validate_arguments
from shared.sessions.tools.output import MAX_CONTENT_CHARS
from shared.sessions.tools.running.masking import NO_MASK, Mask, mask_log
from shared.sessions.tools.running.runner import run_tool
from shared.sessions.tools.running.secrets import SettingSecrets
from shared.sessions.tools.services import ToolServices
from shared.settings import load_tool_secrets

TOKEN = 'tok/en "1234+\u00e9'
SECRETS = SettingSecrets(
    {
        "TOOL_SECRET_CRM_TOKEN": TOKEN,
        "TOOL_SECRET_SHORT": "1234567",
        "TOOL_SECRET_EMPTY": "",
        "TOOL_SECRET_UNRESOLVED": "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/x)",
    }
)
MASK = SECRETS.mask()


@pytest.fixture
def call(call: ToolContext) -> ToolContext:
    names = frozenset({"CRM_TOKEN", "SHORT", "EMPTY", "UNRESOLVED", "MISSING"})
    return replace(call, services=ToolServices(secrets=SECRETS), secrets=names)


@contextmanager
def masked_log() -> Iterator[None]:
    make, out, err = logging.getLogRecordFactory(), sys.stdout, sys.stderr
    mask_log(MASK)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make)
        sys.stdout, sys.stderr = out, err


def test_a_tool_reads_what_it_declared(call: ToolContext) -> None:
    assert call.secret("CRM_TOKEN") == TOKEN
    with pytest.raises(ToolRefused, match="did not declare the secret OTHER_TOKEN"):
        call.secret("OTHER_TOKEN")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("MISSING", "The setting TOOL_SECRET_MISSING is not set"),
        ("EMPTY", "TOOL_SECRET_EMPTY is not set"),
        ("SHORT", "TOOL_SECRET_SHORT has fewer than 8 characters"),
        ("UNRESOLVED", "TOOL_SECRET_UNRESOLVED is a Key Vault reference that was not resolved"),
    ],
)
def test_a_secret_that_cannot_be_used_is_an_error_that_names_its_setting(
    call: ToolContext, name: str, why: str
) -> None:
    with pytest.raises(ToolFailed, match=why):
        call.secret(name)


def test_what_is_missing_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    SECRETS.tell_missing({"crm": ["CRM_TOKEN"], "b": ["MISSING", "SHORT"], "a": ["MISSING"]})

    assert caplog.messages == [
        "secrets of tools: TOOL_SECRET_MISSING is not set (for a, b);"
        " TOOL_SECRET_SHORT has fewer than 8 characters (for b)"
    ]


def test_the_settings_of_the_process_are_read_and_their_values_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_SECRET_CRM_TOKEN", TOKEN)

    assert load_tool_secrets()["TOOL_SECRET_CRM_TOKEN"] == TOKEN
    assert TOKEN not in repr(SettingSecrets(load_tool_secrets()))


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        quote(TOKEN, safe=""),
        quote(TOKEN),
        '{"token": "tok/en \\"1234+\\u00e9"}',
        base64.b64encode(TOKEN.encode()).decode(),
        f"a {TOKEN}{TOKEN} b",
    ],
)
def test_a_value_is_masked_however_it_is_usually_encoded(text: str) -> None:
    shown = MASK.text(text)
    assert "[secret CRM_TOKEN]" in shown
    assert "1234" not in shown


def test_a_value_that_is_a_part_of_another_leaves_nothing_of_the_longer_one() -> None:
    mask = Mask({"A": "password", "B": "password-of-bob"})
    assert mask.text("password-of-bob password") == "[secret B] [secret A]"


def leaks(where: str) -> Tool:
    @tool(secrets=["CRM_TOKEN"])
    async def crm(call: ToolContext) -> ToolOutput:
        """Look up."""
        token = call.secret("CRM_TOKEN")
        if where == "error":
            raise ToolFailed(f"401 for {token}")
        if where == "bug":
            logging.getLogger("client").warning("sending %s", {"authorization": token})
            print("with", token)
            raise RuntimeError(f"bad header {token}")
        if where == "cut":
            return ToolOutput("x" * (MAX_CONTENT_CHARS - 8) + token)
        return ToolOutput(f"token {token}", {token: [token]}, [ToolFile("a.txt", token)])

    return crm


async def test_a_tool_cannot_return_a_secret(call: ToolContext) -> None:
    crm = leaks("output")
    output = await run_tool(crm, validate_arguments(crm, {}), call, timeout_s=20, mask=MASK)

    shown = "[secret CRM_TOKEN]"
    assert (output.content, output.data) == (f"token {shown}", {shown: [shown]})
    assert [file.content for file in output.files] == [shown]


async def test_a_secret_is_masked_where_the_output_was_cut_within_it(call: ToolContext) -> None:
    crm = leaks("cut")
    output = await run_tool(crm, validate_arguments(crm, {}), call, timeout_s=20, mask=MASK)

    assert TOKEN[:6] not in output.content
    assert "[secret " in output.content


async def test_a_tool_cannot_fail_with_a_secret(call: ToolContext) -> None:
    crm = leaks("error")
    with pytest.raises(ToolFailed) as caught:
        await run_tool(crm, validate_arguments(crm, {}), call, timeout_s=20, mask=MASK)

    assert caught.value.safe_message == "401 for [secret CRM_TOKEN]"


async def test_no_log_line_and_nothing_printed_has_a_secret(
    call: ToolContext, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record) + repr(record.__dict__))

    handler = Keeps()
    logging.getLogger().addHandler(handler)
    crm = leaks("bug")
    try:
        with masked_log(), pytest.raises(ToolFailed):
            await run_tool(crm, validate_arguments(crm, {}), call, timeout_s=20, mask=MASK)
    finally:
        logging.getLogger().removeHandler(handler)

    said = "".join(lines) + capsys.readouterr().out
    assert "1234" not in said
    assert said.count("[secret CRM_TOKEN]") >= 3
    assert "bad header [secret CRM_TOKEN]" in said
    assert "with [secret CRM_TOKEN]" in said


def test_without_secrets_nothing_is_wrapped() -> None:
    make, out = logging.getLogRecordFactory(), sys.stdout
    mask_log(NO_MASK)
    assert (logging.getLogRecordFactory(), sys.stdout) == (make, out)
