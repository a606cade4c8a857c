"""A presentation reads slide by slide."""

from __future__ import annotations

from collections.abc import Mapping

from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.readers.analysis import Analysis
from shared.sessions.models import FileKind
from tests.unit.files import documents


def analyze(slides: Mapping[str, str], **parts: str) -> Analysis:
    """slides: the inside of each slide's `sld`, by name, in the order of the presentation."""
    keys = {name: f"r{number}" for number, name in enumerate(slides)}
    shown = "".join(f'<p:sldId id="256" r:id="{key}"/>' for key in keys.values())
    targets = {keys[name]: f"slide slides/{name}.xml" for name in reversed(keys)}
    return FileAnalyzer().analyze(
        documents.zipped(
            {
                "ppt/presentation.xml": f'<p:p xmlns:p="urn:p" xmlns:r="urn:r"><p:sldIdLst>{shown}</p:sldIdLst></p:p>',
                "ppt/_rels/presentation.xml.rels": documents.rels(**targets),
                **{f"ppt/slides/{name}.xml": slide for name, slide in slides.items()},
                **{f"ppt/{name}": part for name, part in parts.items()},
            }
        )
    )


def shape(*texts: str, placeholder: str = "") -> str:
    kind = f'<p:nvPr><p:ph type="{placeholder}"/></p:nvPr>' if placeholder else ""
    lines = "".join(f"<a:p><a:r><a:t>{text}</a:t></a:r></a:p>" for text in texts)
    return f"<p:sp>{kind}<p:txBody>{lines}</p:txBody></p:sp>"


def slide(*shapes: str, attributes: str = "") -> str:
    return f'<p:sld xmlns:p="urn:p" xmlns:a="urn:a" {attributes}>{"".join(shapes)}</p:sld>'


def test_slides_are_read_in_their_order_with_titles_and_tables() -> None:
    row = "".join(f"<a:tc><a:txBody><a:p><a:r><a:t>{cell}</a:t></a:r></a:p></a:txBody></a:tc>" for cell in "ab")
    analysis = analyze(
        {
            "slide2": slide(shape("Plan", placeholder="ctrTitle"), shape("first", "second"), f"<a:tr>{row}</a:tr>"),
            "slide1": slide(shape("7", placeholder="sldNum"), shape("end"), attributes='show="0"'),
        }
    )
    assert analysis.kind is FileKind.PPTX
    assert analysis.text == "## Slide 1: Plan\nfirst\nsecond\na \tb \n## Slide 2 (hidden)\nend\n"
    assert analysis.facts["slides"] == 2
    assert any("hidden" in warning for warning in analysis.warnings)


def test_speaker_notes_and_comments_follow_their_slide() -> None:
    parts = {
        "slides/_rels/slide1.xml.rels": documents.rels(
            a="notesSlide ../notesSlides/n.xml", b="comments ../comments/c.xml"
        ),
        "notesSlides/n.xml": slide(shape("Say hello"), shape("3", placeholder="sldNum")),
        "comments/c.xml": '<p:cmLst xmlns:p="urn:p"><p:cm><p:text>Really?</p:text></p:cm></p:cmLst>',
    }
    analysis = analyze({"slide1": slide(shape("Hi"))}, **parts)
    assert analysis.text == "## Slide 1\nHi\nNotes: Say hello\nComments: Really?\n"
    assert analysis.facts["comments"] == 1
