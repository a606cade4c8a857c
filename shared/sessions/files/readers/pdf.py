"""PDF documents, read in a child process.

Invariant: a hostile PDF can make its reader loop or unpack without end, and a thread cannot be stopped. So a child
process with a bounded address space reads it, at a lower priority than the app; it is killed at the deadline, or when
the caller leaves. This process only holds the capped text.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

from shared.sessions.files.readers.analysis import (
    Analysis,
    AnalysisError,
    Job,
    malformed,
    too_large,
)
from shared.sessions.models import FileKind

_CHILD = Path(__file__).with_name("pdf_child.py")
_HEADER_BYTES = 1024  # readers accept some bytes before the header: ISO 32000-1, annex H, note 13


class PdfStrategy:
    def recognise(self, job: Job) -> bool:
        return b"%PDF-" in job.head(_HEADER_BYTES)

    def analyze(self, job: Job) -> Analysis:
        limits = job.limits
        orders = orjson.dumps(
            {
                "max_pages": limits.max_pages,
                "max_text_chars": limits.max_text_chars,
                "max_memory_bytes": limits.max_child_memory_bytes,
                "max_cpu_s": int(limits.timeout_s) + 1,
            }
        ).decode()
        # A copy has its own descriptor at position 0, whatever kind of file the caller passes.
        with tempfile.TemporaryFile() as file:
            job.file.seek(0)
            shutil.copyfileobj(job.file, file)
            file.seek(0)
            child = subprocess.Popen(  # noqa: S603 - our own program, no shell, no user input in the arguments
                # The platform adds packages to the path at run time, so the child needs to be told.
                [sys.executable, "-I", "-X", "utf8", str(_CHILD), orders, *filter(None, sys.path)],
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},  # no secrets of this application
            )
            with child, job.deadline.stop.calls(child.kill):
                try:
                    answer, _ = child.communicate(timeout=job.deadline.remaining_s())
                except (subprocess.TimeoutExpired, AnalysisError) as exc:
                    raise job.deadline.expired() from exc
                finally:
                    child.kill()  # leaving the block waits for its end
        if child.returncode != 0 or not answer:
            raise too_large("The PDF needs more memory or time than allowed.")
        return _analysis(job, answer)


def _analysis(job: Job, answer: bytes) -> Analysis:
    found = orjson.loads(answer)
    if "error" in found:
        raise too_large(found["error"]) if found["is_too_large"] else malformed(found["error"])
    return Analysis(
        FileKind.PDF,
        "application/pdf",
        found["text"],
        {"size_bytes": job.size_bytes, **found["facts"]},
        tuple(found["warnings"]),
    )
