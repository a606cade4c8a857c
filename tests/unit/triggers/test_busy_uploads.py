"""One user's files under analysis hold up nobody else: not their uploads, not the console's page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from azurefunctions.extensions.http.fastapi import Response
from starlette.requests import Request

from shared.principal import AuthMode
from shared.sessions.files.analyzer import ANALYSES, FileAnalyzer
from shared.sessions.files.attachments import AttachmentService
from shared.sessions.files.readers.analysis import Analysis, Job
from shared.sessions.limits.requests import UNLIMITED
from shared.sessions.live.reading import ReaderMemory
from shared.sessions.models import Attachment, FileKind, SessionStatus
from shared.sessions.records.attachments import AttachmentRecord
from triggers.http import endpoints
from triggers.http.openapi.document import document
from triggers.sessions.attachments import add_attachment
from triggers.site import console

SLOW = b"slow"
UPLOADS = 24
TAKEN = ANALYSES.per_user + ANALYSES.waiting_per_user


class SlowStrategy:
    """Files that say `slow` take until the gate opens."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.gate = threading.Event()

    def recognise(self, job: Job) -> bool:
        return True

    def analyze(self, job: Job) -> Analysis:
        if job.head(4) == SLOW:
            self.began.set()
            assert self.gate.wait(60)
        return Analysis(FileKind.TEXT, "text/plain", "text")


class Stores:
    """Every store of `AttachmentService` at once, for one session that anybody may write to."""

    async def get(self, session_id: str, user_id: str) -> Any:
        config = SimpleNamespace(expires_after_seconds=None)
        session = SimpleNamespace(status=SessionStatus.ACTIVE, config=config)
        return SimpleNamespace(require=lambda _: None, session=session)

    async def usage(self, session_id: str) -> Any:
        return SimpleNamespace(files=0, bytes=0)

    async def announce(self, *_: Any, **__: Any) -> bool:
        return True

    async def put(self, *_: Any, **__: Any) -> None: ...

    async def insert(self, new: Any, **_: Any) -> AttachmentRecord:
        about = Attachment(
            id=new.id,
            session_id=new.session_id,
            name=new.name,
            kind=new.analysis.kind,
            media_type=new.analysis.media_type,
            size_bytes=new.size_bytes,
            sha256=new.sha256,
            facts={},
            warnings=[],
            text_chars=4,
            created_by=new.created_by,
            created_at=datetime.now(UTC),
        )
        return AttachmentRecord(about, new.blob_name, "text")


class _NoPool(ThreadPoolExecutor):
    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the default pool was used")


@pytest.fixture
def slow() -> Iterator[SlowStrategy]:
    strategy = SlowStrategy()
    yield strategy
    strategy.gate.set()


@pytest.fixture
async def app(slow: SlowStrategy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[None]:
    """The app's HTTP functions, with these stores and this strategy, on a loop whose default pool is refused."""

    async def admit(_: str) -> Any:
        return UNLIMITED

    stores: Any = Stores()
    settings = SimpleNamespace(
        auth_mode=AuthMode.DEV,
        auth_tenant_id=None,
        auth_audiences=(),
        public_base_url="http://localhost",
        signalr_service_uri=None,
        signalr_connection_string=None,
    )
    attachments = AttachmentService(stores, stores, stores, FileAnalyzer(strategies=[slow]), max_bytes=100_000)
    everything = SimpleNamespace(
        settings=settings, limiter=SimpleNamespace(admit=admit), attachments=attachments, readers=ReaderMemory()
    )
    monkeypatch.setattr(endpoints, "services", lambda: everything)
    monkeypatch.setattr(console, "services", lambda: everything)
    monkeypatch.setattr(console, "DIST", tmp_path)
    (tmp_path / "index.html").write_text('<meta name="parley-auth" content="">')
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_NoPool())
    yield
    loop._default_executor = None  # type: ignore[attr-defined]  # its shutdown would submit to it


async def _upload(user: str, content: bytes) -> Response:
    body = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--XX--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=XX", "x-dev-user": user, "authorization": "x"}
    left = iter([body, b""])

    async def receive() -> dict[str, Any]:
        piece = next(left)
        return {"type": "http.request", "body": piece, "more_body": piece != b""}

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "path_params": {"session_id": "s1"},
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    operation = next(declared for declared in endpoints.OPERATIONS if declared.name == "add_attachment")
    return await endpoints._serve(operation, add_attachment, Request(scope, receive), None, None)


async def _filled(user: str) -> tuple[list[asyncio.Task[Response]], list[Response]]:
    """One user's parallel uploads, once all that do not fit were refused: the rest, and the refusals."""
    waiting = {asyncio.create_task(_upload(user, SLOW)) for _ in range(UPLOADS)}
    refused: list[Response] = []
    async with asyncio.timeout(60):
        while len(refused) < UPLOADS - TAKEN:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            refused += [task.result() for task in done]
    return list(waiting), refused


@pytest.mark.usefixtures("app")
async def test_others_and_the_page_are_answered_while_one_users_files_are_analysed_or_refused(
    slow: SlowStrategy,
) -> None:
    waiting, refused = await _filled("ann")

    bobs = await asyncio.gather(*(_upload("bob", b"quick") for _ in range(3)))
    page = await console.console(Request({"type": "http", "method": "GET", "path": "/", "headers": []}))

    assert [response.status_code for response in (*bobs, page)] == [201, 201, 201, 200]
    assert not any(task.done() for task in waiting)
    assert {response.status_code for response in refused} == {429}
    assert {response.headers["retry-after"] for response in refused} == {f"{ANALYSES.retry_after_s:g}"}
    assert {orjson.loads(response.body)["code"] for response in refused} == {"RATE_LIMITED"}
    slow.gate.set()
    assert [response.status_code for response in await asyncio.gather(*waiting)] == [201] * TAKEN


@pytest.mark.usefixtures("app")
async def test_an_upload_beyond_the_queue_is_refused_before_its_bytes_are_read(slow: SlowStrategy) -> None:
    waiting, _ = await _filled("ann")

    late = await _upload("ann", b"x" * 200_000)  # larger than a file may be, which nobody gets to see

    assert late.status_code == 429
    slow.gate.set()
    await asyncio.gather(*waiting)


def test_the_refusal_and_its_retry_after_are_declared() -> None:
    described = document.__wrapped__()
    responses = described["paths"]["/api/v1/sessions/{session_id}/attachments"]["post"]["responses"]
    assert "RATE_LIMITED" in responses["429"]["description"]
    for status in ("429", "503"):
        assert responses[status]["headers"]["Retry-After"] == {"$ref": "#/components/headers/Retry-After"}
    assert described["components"]["headers"]["Retry-After"]["schema"] == {"type": "integer", "minimum": 1}
