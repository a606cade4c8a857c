"""Cards by mail: SMTP, always over TLS except to this machine without a password, as text and as HTML.

https://www.rfc-editor.org/rfc/rfc8314 (TLS), https://www.rfc-editor.org/rfc/rfc3834 (`Auto-Submitted`)
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from html import escape

import aiosmtplib

from shared.errors import ErrorCode, Transient
from shared.sessions.channels.cards import WARNING, Card
from shared.sessions.channels.mail_server import MailServer

MAX_ARGUMENT_CHARS = 100_000
_BUTTON = "background:#176f3a;color:#fff;padding:10px 18px;text-decoration:none"
_TEXT = "white-space:pre-wrap;font-family:sans-serif"
_TIMEOUT_S = 10


class MailChannel:
    """`CardChannel` over SMTP: one mail to all recipients."""

    def __init__(
        self, server: MailServer, *, sender: str, recipients: Sequence[str], tls: ssl.SSLContext | None = None
    ) -> None:
        """tls: None: certificates as the system trusts them."""
        self._server = server
        self._sender = sender
        self._recipients = recipients
        self._tls = tls

    async def send(self, card: Card) -> None:
        """Raises Transient unless the server took it for every recipient."""
        server = self._server
        said = "The mail server cannot be reached, or its certificate is not trusted."
        try:
            sending = aiosmtplib.send(
                message(card, sender=self._sender, recipients=self._recipients),
                hostname=server.host,
                port=server.port,
                username=server.user,
                password=server.password,
                use_tls=server.implicit,
                start_tls=not server.implicit and not server.in_clear,
                tls_context=self._tls or ssl.create_default_context(),
                timeout=_TIMEOUT_S,
            )
            async with asyncio.timeout(_TIMEOUT_S):
                refused, _ = await sending
            if not refused:
                return
            said = f"The mail server refused {len(refused)} of {len(self._recipients)} recipients."
        except aiosmtplib.SMTPResponseException as exc:
            said = f"The mail server answered {exc.code}."
        except (aiosmtplib.SMTPException, OSError):
            pass
        raise Transient(ErrorCode.INTERNAL_ERROR, said)


def message(card: Card, *, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """The mail. Its `Message-ID` is the notice's, so that a repeat is recognised."""
    told = EmailMessage(policy=SMTP)
    told["Subject"] = f"{card.heading}: {card.question}"
    told["From"] = sender
    told["To"] = [Address(addr_spec=recipient) for recipient in recipients]
    told["Message-ID"] = f"<{card.message_id}@{Address(addr_spec=sender).domain}>"
    told["Auto-Submitted"] = "auto-generated"
    arguments = card.cut_arguments(MAX_ARGUMENT_CHARS)
    told.set_content(_text(card, arguments))
    told.add_alternative(_html(card, arguments), subtype="html")
    return told


def _text(card: Card, arguments: str) -> str:
    facts = "\n".join(f"{name}: {value}" for name, value in card.facts)
    context = "".join(f"{heading}\n\n{text}\n\n" for heading, text in card.context)
    return f"""{card.heading}

{card.question}

Open the approval: {card.link}

{facts}

{context}Exactly these arguments. {WARNING}

{arguments}
"""


def _html(card: Card, arguments: str) -> str:
    facts = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in card.facts)
    context = "".join(
        f'<h2>{escape(heading)}</h2><pre style="{_TEXT}">{escape(text)}</pre>' for heading, text in card.context
    )
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(card.heading)}</title></head>
<body style="font-family:sans-serif"><p>{escape(card.heading)}</p><h1>{escape(card.question)}</h1>
<p><a href="{escape(card.link)}" style="{_BUTTON}">Open the approval</a></p>
<table>{facts}</table>{context}<h2>Exactly these arguments</h2><p>{escape(WARNING)}</p>
<pre style="white-space:pre-wrap">{escape(arguments)}</pre></body></html>
"""
