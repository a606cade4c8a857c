"""One file out of a form, whatever the form looks like and however it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from starlette.requests import Request

from shared.errors import ErrorCode, InvalidInput
from shared.sessions.files.spool import Spool
from triggers.http.multipart import receive_file

MAX_BYTES = 100_000
FORM = "multipart/form-data; boundary=XX"


def part(body: bytes = b"hello", disposition: str = 'form-data; name="file"; filename="a.txt"', *more: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: {disposition}", *more])
    return b"--XX\r\n" + head.encode("latin-1") + b"\r\n\r\n" + body + b"\r\n"


END = b"--XX--\r\n"


def request(content_type: str | None, pieces: Sequence[bytes]) -> Request:
    headers = [] if content_type is None else [(b"content-type", content_type.encode("latin-1"))]
    left = iter([*pieces, b""])

    async def receive() -> dict[str, Any]:
        piece = next(left)
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


async def received(content_type: str | None, *pieces: bytes) -> tuple[bytes, str | None]:
    with Spool(MAX_BYTES) as spool:
        name = await receive_file(request(content_type, pieces), spool, MAX_BYTES)
        spool.file.seek(0)
        return spool.file.read(), name


async def refused(content_type: str | None, *pieces: bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        await received(content_type, *pieces)
    return refusal.value


@pytest.mark.parametrize("size", [1, 7, 64, 1_000_000])
async def test_file_is_the_same_however_it_is_cut_into_pieces(size: int) -> None:
    content = b"--XX \r\n--X\r\n\x00\xff--XX--" * 50  # nearly boundaries, all over
    body = part(content) + END
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert await received(FORM, *pieces) == (content, "a.txt")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('form-data; name="file"; filename="../x.txt"', "../x.txt"),  # cleaned when it is stored
        ('form-data; name="file"; filename=""', ""),
        ('form-data; name="file"; filename="\u017elu\u0165.txt"', "žluť.txt"),
        ("FORM-DATA; name=file; filename=bare.txt", "bare.txt"),
        ('form-data; filename="a.txt"; name="file"; filename*=UTF-8\'\'evil.exe', "a.txt"),
    ],
)
async def test_name_is_read_as_browsers_write_it(disposition: str, name: str) -> None:
    raw = disposition.encode().decode("latin-1")
    assert await received(FORM, part(b"x", raw) + END) == (b"x", name)


async def test_name_in_another_encoding_is_still_a_name() -> None:
    assert (await received(FORM, part(b"x", 'form-data; name="file"; filename="\xe9.txt"') + END))[1] == "é.txt"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=XX",
        "application/x-www-form-urlencoded",
        f"multipart/form-data; boundary={'X' * 300}",
        "multipart/form-data; boundary=YY",
    ],
)
async def test_body_of_another_type_or_boundary_is_refused(content_type: str | None) -> None:
    assert (await refused(content_type, part() + END)).code is ErrorCode.INVALID_MESSAGE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        END,
        part(),  # broken off
        part()[:-9],
        part() + b"--XX",
        b"--XX\r\n\r\nno headers\r\n" + END,
        part(b"x", 'form-data; name="file"') + END,
        part(b"x", 'form-data; name="other"; filename="a"') + END,
        part(b"x", 'attachment; name="file"; filename="a"') + END,
        part(b"x", 'form-data; filename="a"') + END,
        part() + part() + END,
        part(b"1", 'form-data; name="note"') + part() + END,
        part() + part(b"1", 'form-data; name="note"') + END,
        part(b"aGVsbG8=", 'form-data; name="file"; filename="a"', "Content-Transfer-Encoding: base64") + END,
        b"--XX\r\nContent-Disposition form-data\r\n\r\nx\r\n" + END,
        b'--XX\r\nContent-Disposition: form-data; name="file"; filename="' + b"n" * 9_000 + b'"\r\n\r\nx\r\n' + END,
        b"--XX\r\n" + b"X-A: b\r\n" * 100 + b"\r\nx\r\n" + END,
        b"\x1f\x8b\x08\x00",
    ],
)
async def test_form_without_exactly_one_file_is_refused(body: bytes) -> None:
    error = await refused(FORM, body)
    assert error.code is ErrorCode.INVALID_MESSAGE
    assert error.errors[0]["field"]


async def test_extra_field_is_named() -> None:
    assert (await refused(FORM, part(b"1", 'form-data; name="note"') + END)).errors[0]["field"] == "note"


@pytest.mark.parametrize(
    "body",
    [
        part(b"x" * (MAX_BYTES + 1)) + END,
        b"junk " * 40_000 + part() + END,
        part() + END + b"junk " * 40_000,
    ],
    ids=["file", "preamble", "epilogue"],
)
async def test_too_much_is_refused_as_soon_as_it_has_come(body: bytes) -> None:
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        for at in range(0, len(body), 4096):
            read += 1
            yield body[at : at + 4096]
        while True:
            read += 1
            yield b"x" * 4096

    source = pieces()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(source), "more_body": True}

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", FORM.encode())]}
    with Spool(MAX_BYTES) as spool, pytest.raises(InvalidInput) as refusal:
        await receive_file(Request(scope, receive), spool, MAX_BYTES)
    assert refusal.value.code in {ErrorCode.MESSAGE_TOO_LONG, ErrorCode.INVALID_MESSAGE}
    assert read < 60


async def test_exactly_the_limit_is_taken() -> None:
    assert len((await received(FORM, part(b"x" * MAX_BYTES) + END))[0]) == MAX_BYTES
