"""An analysis in a thread: what ends it early, and whom it holds up."""

from __future__ import annotations

import asyncio
import io
import subprocess
import threading
from typing import Any

import pytest

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers import pdf
from shared.sessions.files.readers.analysis import Analysis, AnalysisError, Deadline, Job, Limits, Stop
from shared.sessions.models import FileKind
from shared.work_pool import in_new_thread
from tests.unit.files import documents


async def test_a_pdf_whose_sender_left_is_killed_and_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    began = threading.Event()

    class Child(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **how: Any) -> None:
            super().__init__(["sleep", "600"], **how)  # reads for ever
            children.append(self)
            began.set()

    monkeypatch.setattr(pdf.subprocess, "Popen", Child)
    analyzer = FileAnalyzer(Limits(timeout_s=600))
    reading = asyncio.create_task(analyzer.analyze_async(documents.pdf(), "ann"))
    assert await in_new_thread(lambda: began.wait(30))

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    async with asyncio.timeout(60):
        analysis = await analyzer.analyze_async(io.BytesIO(b"some text"), "ann")
    assert analysis.kind is FileKind.TEXT
    assert [child.poll() for child in children] == [-9]


async def test_a_reader_that_looks_at_its_deadline_ends_when_its_sender_left() -> None:
    began, ended = threading.Event(), threading.Event()

    class Loop:
        def recognise(self, job: Job) -> bool:
            return True

        def analyze(self, job: Job) -> Analysis:
            began.set()
            try:
                while True:
                    job.deadline.check()
            finally:
                ended.set()

    reading = asyncio.create_task(FileAnalyzer(Limits(timeout_s=600), [Loop()]).analyze_async(io.BytesIO(b"x"), "ann"))
    assert await in_new_thread(lambda: began.wait(30))
    reading.cancel()
    assert await in_new_thread(lambda: ended.wait(30))


def test_what_is_stopped_before_it_began_does_nothing() -> None:
    stop, called = Stop(), list[str]()
    stop.set()
    with stop.calls(lambda: called.append("at once")):
        pass
    assert called == ["at once"]
    with pytest.raises(AnalysisError):
        Deadline(600, stop=stop).check()
    with pytest.raises(AnalysisError):
        FileAnalyzer().analyze(io.BytesIO(b"some text"), stop)
