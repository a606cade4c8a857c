"""The child process that lays out one document: JSON on standard input, the PDF on standard output.

`writer.py` starts it with the limits and the package path as arguments. It is run as a file and not as a module, so
that it loads nothing of this application but `readback.py` beside it. Invariants: it sets its own resource limits
before it reads the first byte. The text of the document is data, which Typst never reads as markup or code.
"""

from __future__ import annotations

import json
import resource
import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_FIRST_SHAPED = "\u0300"
"""Below it, one character is one glyph: Latin letters, also with accents."""


def laid_out(document: str, made_at: int) -> bytes:
    import typst

    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=[str(_HERE / "fonts")])
    pdf = typst.compile(
        (_HERE / "page.typ").read_bytes(),
        font_paths=fonts,
        ignore_system_fonts=True,
        format="pdf",
        sys_inputs={"document": document},
        timestamp=made_at,
    )
    assert isinstance(pdf, bytes)
    return pdf


def main(orders: dict[str, int], document: str) -> bytes:
    pdf = laid_out(document, orders["made_at"])
    if max(document) < _FIRST_SHAPED:
        return pdf
    return bytes(runpy.run_path(str(_HERE / "readback.py"))["readable"](pdf))


def bound(kind: int, limit: int) -> None:
    """Lower a resource limit of this process, never above the system's. macOS refuses some limits."""
    _, hard = resource.getrlimit(kind)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    try:
        resource.setrlimit(kind, (limit, limit))
    except (ValueError, OSError):
        sys.stderr.write("This system does not support the resource limit.\n")


if __name__ == "__main__":
    sys.path[:] = sys.argv[2:]
    orders = json.loads(sys.argv[1])
    bound(resource.RLIMIT_AS, orders["max_memory_bytes"])
    bound(resource.RLIMIT_CPU, orders["max_cpu_s"])
    sys.stdout.buffer.write(main(orders, sys.stdin.read()))
