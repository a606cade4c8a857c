"""An e-mail message reads as a mail program shows it."""

from __future__ import annotations

import io
from email.message import EmailMessage

import pytest

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers.analysis import Analysis, AnalysisError
from shared.sessions.models import FileKind


def analyze(data: bytes) -> Analysis:
    return FileAnalyzer().analyze(io.BytesIO(data))


def message(text: str = "Hallo Köln", subject: str = "Angebot für Stühle 😀") -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Ann Müller <ann@example.org>"
    made["To"] = "Bob <bob@example.org>"
    made["Date"] = "Fri, 02 Jan 2026 03:04:05 +0100"
    made["Subject"] = subject
    made.set_content(text)
    return made


HEAD = (
    "From: Ann Müller <ann@example.org>\nTo: Bob <bob@example.org>\nDate: Fri, 02 Jan 2026 03:04:05 +0100\n"
    "Subject: Angebot für Stühle 😀\n\n"
)


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "8bit"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_headers_and_text_are_decoded(charset: str, encoding: str) -> None:
    made = message()
    made.set_content("Grüße aus Köln\nzweite Zeile\n", charset=charset, cte=encoding)
    analysis = analyze(bytes(made))
    assert (analysis.kind, analysis.media_type) == (FileKind.EML, "message/rfc822")
    assert analysis.text == f"{HEAD}Grüße aus Köln\nzweite Zeile\n"
    assert analysis.facts["subject"] == "Angebot für Stühle 😀"


def test_of_alternatives_the_plain_one_is_read_and_attachments_are_named() -> None:
    made = message("plain words")
    made.add_alternative("<p>html words</p>", subtype="html")
    made.add_attachment(b"\x00" * 99, maintype="application", subtype="pdf", filename="Übersicht.pdf")
    made.add_attachment("attached text", filename="note.txt")
    analysis = analyze(bytes(made).replace(b"\n", b"\r\n"))
    assert analysis.text == (
        f"{HEAD}plain words\n\nAttachments:\n- Übersicht.pdf (application/pdf)\n- note.txt (text/plain)\n"
    )
    assert analysis.facts["attachments"] == 2
    assert any("attachments" in warning for warning in analysis.warnings)


def test_html_alone_is_read_as_text() -> None:
    made = message()
    made.set_content(
        "<html><head><style>p {}</style><title>x</title></head><body><p>One &amp; two</p><script>alert(1)</script>"
        "<table><tr><td>a</td><td>b</td></tr></table><!-- gone --></body></html>",
        subtype="html",
    )
    assert analyze(bytes(made)).text == f"{HEAD}One & two\n\na\tb\n"


def test_a_forwarded_message_is_read_as_part_of_it() -> None:
    made = message("See below.")
    made.add_attachment(message("The first words."))
    text = analyze(bytes(made)).text or ""
    assert "See below." in text
    assert "The first words." in text


def test_raw_utf8_in_headers_is_read() -> None:
    data = "From: Jörg <j@example.org>\nTo: b@example.org\nSubject: Größe\n\nText\n".encode()
    assert (analyze(data).text or "").startswith("From: Jörg <j@example.org>\nTo: b@example.org\nSubject: Größe\n\n")


@pytest.mark.parametrize("text", ["From: here\nto there.\n", "Subject: x\n\nA note\n", "from: a\nfrom: b\n"])
def test_text_with_few_headers_is_no_message(text: str) -> None:
    assert analyze(text.encode()).kind is FileKind.TEXT


def test_a_message_nested_without_end_is_refused() -> None:
    head = "From: a@example.org\nTo: b@example.org\nSubject: x\n"
    levels = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(100))
    with pytest.raises(AnalysisError, match="nested deeper"):
        analyze((head + levels).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Type: multipart/mixed; boundary=\n\n--\n--\n",
        b"Content-Type: text/plain; charset=nonsense\nContent-Transfer-Encoding: base64\n\n!!!!a\n",
        b"Content-Disposition: attachment; filename=" + b"x;" * 100_000 + b"\n\nx\n",
        b"Content-Type: text/html\n\n" + b"<style>" * 20_000 + b"<!--" * 20_000 + b"<a " * 20_000,
        b"Content-Type: text/plain; name*0*=x''%ff; name*9*=y; boundary*=\xff\n\n\xff\xfe\n",
        b"Subject: =?utf-8?b?!?= =?nonsense?q?a?= =?utf-7?q?+AAA?=\n\nx\n",
    ],
)
def test_a_damaged_message_is_read_as_far_as_it_goes(body: bytes) -> None:
    analysis = analyze(b"From: a@example.org\nTo: b@example.org\nSubject: x\n" + body)
    assert analysis.kind is FileKind.EML
    (analysis.text or "").encode()
