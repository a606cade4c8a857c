"""`python -m devtools.fonts SOURCES`: writes the fonts of the PDF writer, and which characters they cover.

SOURCES is a folder with the packages that the README beside the fonts names, unpacked. Needed only to change a font.

Invariant: outlines and shaping rules are unchanged. Only whole tables, characters or weights are left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devtools.setup.places import ROOT

FONTS = Path(ROOT, "shared", "sessions", "files", "writers", "pdf", "fonts")
_COPIED = (
    "NotoSans", "NotoSans-Italic", "NotoSansArmenian", "NotoSansBengali", "NotoSansDevanagari",
    "NotoSansEthiopic", "NotoSansGeorgian", "NotoSansGujarati", "NotoSansGurmukhi", "NotoSansKannada",
    "NotoSansKhmer", "NotoSansLao", "NotoSansMalayalam", "NotoSansMyanmar", "NotoSansOriya", "NotoSansSinhala",
    "NotoSansSymbols", "NotoSansTamil", "NotoSansTelugu", "NotoSansThai",
)  # fmt: skip
_RIGHT_TO_LEFT = ("NotoSansArabic", "NotoSansHebrew")
_WEIGHTS = {"Regular": 400, "Bold": 700}
_PUNCTUATION = [char for char in map(chr, (*range(0x20, 0x7F), *map(ord, "\xa0«»·–—‘’“”…"))) if not char.isalnum()]
_UNPACKED = {
    "NotoSansThaana": "noto-sans-thaana-thaana-wght-normal.woff2",
    "NotoSerifTibetan": "noto-serif-tibetan-tibetan-400-normal.woff2",
}
_MATH = "noto-sans-math-latin-400-normal.woff2"
_MATH_LETTERS = range(0x1D400, 0x1D800)
_EMOJI = "NotoColorEmoji_400Regular.ttf"
_CJK = "NotoSansCJKjp-Regular.otf"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.fonts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", type=Path)
    sources: Path = parser.parse_args(arguments).sources
    for name in _COPIED:
        (FONTS / f"{name}.ttf").write_bytes(_found(sources, f"{name}[[]wght].ttf").read_bytes())
    for name, source in _UNPACKED.items():
        _unpack(_found(sources, source), FONTS / f"{name}.ttf")
    for name in _RIGHT_TO_LEFT:
        for style, weight in _WEIGHTS.items():
            _with_punctuation(sources, name, weight, FONTS / f"{name}-{style}.ttf")
    math = _subset(_read(_found(sources, _MATH)), set(_MATH_LETTERS))
    math.flavor = None
    math.save(FONTS / "NotoSansMath.ttf")
    _without_svg(_found(sources, _EMOJI), FONTS / "NotoColorEmoji.ttf")
    _cjk_supplement(_found(sources, _CJK), FONTS / "NotoSansCJKSupplement.otf")
    (FONTS / "coverage.txt").write_text(coverage(), encoding="ascii")
    return 0


def coverage() -> str:
    """The characters that any of the fonts has, as ranges of hexadecimal numbers: one range a line, in order."""
    codes: set[int] = set()
    for path in sorted(FONTS.glob("*.[to]tf")):
        codes |= set(_read(path).getBestCmap())
    lines: list[str] = []
    first = last = -1
    for code in [*sorted(codes), sys.maxunicode + 2]:
        if code != last + 1:
            if first >= 0:
                lines.append(f"{first:X} {last:X}\n")
            first = code
        last = code
    return "".join(lines)


def _found(sources: Path, pattern: str) -> Path:
    return next(path for path in sorted(sources.rglob(pattern)))


def _read(path: Path, **options: Any) -> Any:
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it carries no types

    return TTFont(path, **{"lazy": True, "recalcTimestamp": False, **options})


def _unpack(source: Path, target: Path) -> None:
    font = _read(source)
    font.flavor = None
    font.save(target)


def _with_punctuation(sources: Path, name: str, weight: int, target: Path) -> None:
    """One weight, with the punctuation of Noto Sans: where the font changes within a line, programs that extract text
    show the parts of a right-to-left line in the order of their places.
    """
    from fontTools.merge import Merger  # type: ignore[import-untyped]

    font, latin = (_of_weight(_found(sources, f"{each}[[]wght].ttf"), weight) for each in (name, "NotoSans"))
    _subset(latin, set(map(ord, _PUNCTUATION)) - set(font.getBestCmap()))
    with tempfile.TemporaryDirectory() as folder:
        parts = [str(Path(folder, part)) for part in ("font.ttf", "latin.ttf")]
        font.save(parts[0])
        latin.save(parts[1])
        Merger().merge(parts).save(target)


def _of_weight(path: Path, weight: int) -> Any:
    from fontTools.varLib.instancer import instantiateVariableFont  # type: ignore[import-untyped]

    font = _read(path, lazy=False)
    others = {axis.axisTag: axis.defaultValue for axis in font["fvar"].axes}
    return instantiateVariableFont(font, others | {"wght": weight})


def _without_svg(source: Path, target: Path) -> None:
    """The pictures are in it twice, as SVG and as layers of outlines (COLR), which are a fifth of the size."""
    font = _read(source)
    del font["SVG "]
    font.save(target)


def _subset(font: Any, characters: set[int]) -> Any:
    from fontTools.subset import Options, Subsetter  # type: ignore[import-untyped]

    subsetter = Subsetter(Options(hinting=False, layout_features=[], name_IDs=[0, 1, 2, 4, 6, 13, 14]))
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    return font


def _cjk_supplement(source: Path, target: Path) -> None:
    """The characters that the other fonts lack."""
    target.unlink(missing_ok=True)
    had = {code for path in FONTS.glob("*.[to]tf") for code in _read(path).getBestCmap()}
    font = _read(source)
    _subset(font, set(font.getBestCmap()) - had)
    for record in list(font["name"].names):
        if record.nameID in (1, 4, 6):
            text = "Noto Sans CJK Supplement"
            font["name"].setName(
                text.replace(" ", "") if record.nameID == 6 else text,
                record.nameID,
                record.platformID,
                record.platEncID,
                record.langID,
            )
    font.save(target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
