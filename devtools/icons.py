"""The console's icons as PNGs, for places that take no SVG: made from `web/src/icon.svg`, and committed.

`python -m devtools.icons` makes them again. The stamp beside them says of which SVG they were made.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from devtools.setup.places import ROOT

SOURCE = Path(ROOT, "web", "src", "icon.svg")
FOLDER = SOURCE.with_name("icons")
STAMP = FOLDER / "made-from.sha256"
GROUND = "#2f5d62"
"""The colour of the logo's own square."""


class Icon(NamedTuple):
    name: str
    pixels: int
    is_full: bool
    """To its edges, since the system cuts its own shape: what is drawn is within the middle 80 %."""


ICONS = (
    Icon("icon-192.png", 192, False),
    Icon("icon-512.png", 512, False),
    Icon("maskable-512.png", 512, True),
    Icon("apple-180.png", 180, True),
)


def make(folder: Path = FOLDER) -> None:
    """Write all of them, and the stamp."""
    # Imported here: the library is the app's, for PDFs; it draws the same on every machine.
    import typst

    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        svg = SOURCE.read_bytes()
        Path(work, "icon.svg").write_bytes(svg)
        for icon in ICONS:
            drawing = Path(work, "icon.typ")
            ground = f'rgb("{GROUND}")' if icon.is_full else "none"
            drawing.write_text(
                f"#set page(width: {icon.pixels}pt, height: {icon.pixels}pt, margin: 0pt, fill: {ground})\n"
                '#image("icon.svg", width: 100%)\n',
                encoding="ascii",
            )
            Path(folder, icon.name).write_bytes(typst.compile(drawing, format="png", ppi=72.0))
    Path(folder, STAMP.name).write_text(hashlib.sha256(svg).hexdigest() + "\n", encoding="ascii")


if __name__ == "__main__":
    make()
    print(f"{FOLDER}: {', '.join(icon.name for icon in ICONS)}")
    sys.exit(0)
