"""The child process that reads one PDF from standard input and writes one JSON object to standard output.

`pdf.py` starts it with the limits and the package path as arguments. It is run as a file and not as a module, so that
it loads nothing of this application. Invariant: it sets its own resource limits before it reads the first byte.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any


def main(orders: dict[str, int]) -> dict[str, Any]:
    os.nice(10)  # the app's requests come first
    _bound(resource.RLIMIT_AS, orders["max_memory_bytes"])
    _bound(resource.RLIMIT_CPU, orders["max_cpu_s"])
    import logging

    logging.disable(logging.CRITICAL)
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, LimitReachedError, PyPdfError

    try:
        reader = PdfReader(sys.stdin.buffer, strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            return _error("The PDF is protected by a password.")
        pages = len(reader.pages)
        if pages > orders["max_pages"]:
            return _error(f"The PDF has more than {orders['max_pages']} pages.", is_too_large=True)
        if pages == 0:
            return _error("The PDF has no pages.")
        return _text(reader, pages, orders["max_text_chars"])
    except LimitReachedError:
        return _error("The PDF unpacks to more than allowed.", is_too_large=True)
    except DependencyError:
        return _error("The PDF is encrypted in a way that cannot be read.")
    except (MemoryError, RecursionError):
        return _error("The PDF needs more memory than allowed.", is_too_large=True)
    except PyPdfError:
        return _error("The PDF is damaged.")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, AssertionError, NotImplementedError):
        # The reader raises anything on damaged files; this process ends after this file anyway.
        return _error("The PDF is damaged.")


def _text(reader: Any, pages: int, max_chars: int) -> dict[str, Any]:
    from pypdf.errors import LimitReachedError, PyPdfError

    parts: list[str] = []
    room, unreadable, empty, is_cut = max_chars, 0, 0, False
    for page in reader.pages:
        if room <= 0:
            is_cut = True
            break
        try:
            contents = page.get_contents()
            if contents is not None:
                contents.get_data()  # raises at the limit; `extract_text` would treat such a page as empty
            text = page.extract_text()
        except LimitReachedError:
            raise
        except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError):
            unreadable += 1
            continue
        empty += not text.strip()
        text = text.replace("\x00", "").encode("utf-8", "replace").decode()  # no lone surrogates
        is_cut = is_cut or len(text) > room
        parts.append(text[:room])
        room -= len(text) + 1
    warnings = []
    if is_cut:
        warnings.append(f"Only the first {max_chars} characters of text were kept.")
    if unreadable:
        warnings.append(f"{unreadable} pages could not be read.")
    if empty == pages:
        warnings.append("No page holds text; the PDF is probably a scan.")
    title = reader.metadata.title if reader.metadata else None
    facts = {"pages": pages, "title": str(title)[:200] if title else None}
    return {"text": "\n".join(parts)[:max_chars], "facts": facts, "warnings": warnings}


def _bound(kind: int, limit: int) -> None:
    """Lower a resource limit of this process, never above the system's. macOS refuses some limits."""
    _, hard = resource.getrlimit(kind)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    try:
        resource.setrlimit(kind, (limit, limit))
    except (ValueError, OSError):
        sys.stderr.write("This system does not support the resource limit.\n")


def _error(message: str, *, is_too_large: bool = False) -> dict[str, Any]:
    return {"error": message, "is_too_large": is_too_large}


if __name__ == "__main__":
    sys.path[:] = sys.argv[2:]
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))))
