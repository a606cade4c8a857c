"""Cards by mail, to a real SMTP server: over TLS or not at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from shared.adapters.channels.mail import MailChannel
from shared.errors import Transient
from shared.sessions.channels.mail_server import MailServer
from tests.integration.platform.entra import certificate
from tests.support.cards import LINK, card, hostile_card

pytestmark = pytest.mark.integration

TO = ("ann@example.com", "bob@example.com")


class Inbox:
    """What the server took."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.refuses = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]) -> str:
        if address == self.refuses:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.mails.append(envelope)
        return "250 OK"


def _log_in(server: Any, session: Any, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    right = isinstance(given, LoginPassword) and (given.login, given.password) == (b"parley", b"right")
    return AuthResult(success=right, handled=False)


type Serve = Callable[..., Awaitable[int]]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def serve(inbox: Inbox) -> AsyncIterator[Serve]:
    """Starts servers on this machine; returns the port. implicit: the context of one that speaks TLS at once."""
    running: list[asyncio.Server] = []

    async def start(*, implicit: ssl.SSLContext | None = None, **options: Any) -> int:
        loop = asyncio.get_running_loop()
        made = await loop.create_server(lambda: SMTP(inbox, **options), "127.0.0.1", 0, ssl=implicit)
        running.append(made)
        return int(made.sockets[0].getsockname()[1])

    yield start
    for server in running:
        server.close()


def _channel(port: int, trusted: Path | None, *, implicit: bool = False, password: str | None = "right") -> MailChannel:
    user = None if password is None else "parley"
    tls = None if trusted is None else ssl.create_default_context(cafile=trusted)
    server = MailServer("127.0.0.1", port, user, password, implicit)
    return MailChannel(server, sender="parley@example.com", recipients=TO, tls=tls)


@pytest.mark.parametrize("implicit", [True, False])
async def test_a_card_arrives_over_tls_at_everybody(tmp_path: Path, inbox: Inbox, serve: Serve, implicit: bool) -> None:
    trusted, context = certificate(tmp_path)
    demands = {"authenticator": _log_in, "auth_required": True, "auth_require_tls": not implicit}
    port = await serve(**demands, **({"implicit": context} if implicit else {"tls_context": context}))
    told = hostile_card()

    await _channel(port, trusted, implicit=implicit).send(told)

    (envelope,) = inbox.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("parley@example.com", list(TO))
    content = envelope.content
    assert isinstance(content, bytes)
    mail = message_from_bytes(content, policy=default)
    assert mail["To"] == ", ".join(TO)
    text, page = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert page is not None
    for part in (text, page):
        assert LINK in part.get_content()
    assert told.arguments in text.get_content().replace("\r\n", "\n")


async def test_without_tls_nothing_is_sent(inbox: Inbox, serve: Serve) -> None:
    port = await serve(authenticator=_log_in, auth_required=True, auth_require_tls=False)

    with pytest.raises(Transient):
        await _channel(port, None).send(card())
    assert inbox.mails == []


async def test_a_certificate_that_is_not_trusted_gets_nothing(tmp_path: Path, inbox: Inbox, serve: Serve) -> None:
    _, context = certificate(tmp_path)
    port = await serve(tls_context=context)

    with pytest.raises(Transient, match="not trusted"):
        await _channel(port, None).send(card())
    assert inbox.mails == []


async def test_a_wrong_password_is_told_without_it(tmp_path: Path, inbox: Inbox, serve: Serve) -> None:
    trusted, context = certificate(tmp_path)
    port = await serve(tls_context=context, authenticator=_log_in, auth_required=True)

    with pytest.raises(Transient, match="answered 535") as refused:
        await _channel(port, trusted, password="wrong-one").send(card())
    assert "wrong-one" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert inbox.mails == []


async def test_one_refused_recipient_is_told(inbox: Inbox, serve: Serve) -> None:
    port = await serve()
    inbox.refuses = TO[1]

    with pytest.raises(Transient, match="refused 1 of 2"):
        await _channel(port, None, password=None).send(card())


async def test_a_server_that_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.adapters.channels.mail._TIMEOUT_S", 0.2)
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]

    with pytest.raises(Transient):
        await _channel(port, None, password=None).send(card())
    silent.close()
