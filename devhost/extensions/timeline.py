"""A timeline as an SVG picture: lanes of bars and marks, without scripts, style attributes or a fixed width.

Positions are percentages, so that text keeps its size on a phone while bars shrink. The picture is not accessible by
itself; a page that shows it also shows the same facts as a table.

Invariants: all names are escaped. Everything lies within the picture. Its size is bounded: bars too close to tell apart
are merged, and lanes beyond the limit are counted, not drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape

from devhost.extensions.timescale import Scale, span

MOST_LANES = 60
_MOST_BARS = 3_000
_FINEST = 0.3
"""Bars of one lane that are closer than this are merged, in percent."""
_SHORTEST = 0.6
_MOST_CHARS = 48
_TOP = 40
_LENGTHS_Y = 13
_TIMES_Y = 30
_ROW = 38
_BAR_TOP = 20
_BAR_HEIGHT = 11
_LABEL_WIDTH = 17.0


class Tone(StrEnum):
    """How something ended; colour is never the only sign."""

    DONE = "done"
    FAILED = "failed"
    OPEN = "open"
    """Still running; drawn up to now."""
    IDLE = "idle"
    """Nothing ran; the instance waited."""


_MEANINGS = (
    (Tone.FAILED, "Red with ✕: failed."),
    (Tone.OPEN, "Pale with a dashed edge: still open."),
    (Tone.IDLE, "Pale: nothing ran, the instance waited."),
)


@dataclass(frozen=True, slots=True)
class Bar:
    """Times are microseconds since the epoch; start and end may be the same."""

    start_us: int
    end_us: int
    tone: Tone = Tone.DONE


@dataclass(frozen=True, slots=True)
class Lane:
    """kind: `orchestrator`, `activity`, `sub`, `timer`, `event` or `entity`. note: shown after the label.

    marks: instants of things without a duration, such as the arrival of an event.
    """

    kind: str
    label: str
    bars: Sequence[Bar] = ()
    marks: Sequence[int] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Lanes in drawing order. summary: the picture in words, for people who cannot see it."""

    title: str
    summary: str
    lanes: Sequence[Lane]
    notes: Sequence[str] = ()


STYLE = """.timeline{margin:1rem 0}.timeline svg{display:block;overflow:visible;font-size:13px}
.timeline text{fill:currentColor;stroke:var(--paper,Canvas);stroke-width:3px;paint-order:stroke}
.timeline .axis{font-size:12px;opacity:.85}
.timeline .grid{stroke:currentColor;stroke-opacity:.15}.timeline .row{stroke:currentColor;stroke-opacity:.12}
.timeline .cut{fill:var(--paper,Canvas)}.timeline .edge{stroke:currentColor;stroke-opacity:.6;stroke-dasharray:3 3}
.timeline rect{fill:#596164}.timeline .activity rect{fill:#2f5d62}.timeline .sub rect{fill:#7a68b3}
.timeline .timer rect{fill:#9a5b6b}.timeline .event rect,.timeline .entity rect{fill:#835200}
.timeline .mark{fill:var(--paper,Canvas);stroke:currentColor;stroke-width:3}.timeline .event .mark{stroke:#835200}
.timeline rect.failed{fill:#a62b22}.timeline rect.open{fill-opacity:.35;stroke:currentColor;stroke-dasharray:4 3}
.timeline rect.idle{fill-opacity:.3}.timeline text.cross{fill:#a62b22;font-weight:bold;font-size:15px}
@media(prefers-color-scheme:dark){.timeline rect{fill:#a3acab}.timeline .activity rect{fill:#6fb0ab}
.timeline .sub rect{fill:#b3a4ea}.timeline .timer rect{fill:#c98a9b}.timeline .event rect,
.timeline .entity rect{fill:#e9b667}.timeline .event .mark{stroke:#e9b667}.timeline rect.failed{fill:#f0998f}
.timeline text.cross{fill:#f0998f}}"""


def draw(timeline: Timeline) -> str:
    """HTML of a figure; empty when there is nothing to draw. The page must include STYLE."""
    lanes = list(timeline.lanes[:MOST_LANES])
    left_out = len(timeline.lanes) - len(lanes)
    instants = [at for lane in lanes for bar in lane.bars for at in (bar.start_us, bar.end_us)]
    instants += [at for lane in lanes for at in lane.marks]
    if not instants:
        return ""
    scale = Scale(
        instants,
        ((bar.start_us, bar.end_us) for lane in lanes for bar in lane.bars if lane.kind in {"activity", "sub"}),
    )
    height = _TOP + _ROW * len(lanes)
    finest = max(_FINEST, 100.0 * len(lanes) / _MOST_BARS)
    rows = "".join(_lane(lane, scale, _TOP + _ROW * index, finest) for index, lane in enumerate(lanes))
    # Drawn last, so that neither a cut nor a bar covers the labels.
    labels = "".join(
        f'<text x="0%" y="{_TOP + _ROW * index + 14}">{escape(_short(_label(lane)))}</text>'
        for index, lane in enumerate(lanes)
    )
    cuts = "".join(_cut(cut.left, cut.right, height, f"{span(cut.length_us)}, not to scale") for cut in scale.cuts)
    picture = (
        f'<svg role="img" aria-label="{escape(timeline.summary)}" width="100%" height="{height}" '
        f'xmlns="http://www.w3.org/2000/svg">{_grid(scale, height)}{rows}{cuts}{_axis(scale)}{labels}</svg>'
    )
    caption = " ".join(escape(note) for note in (*_notes(scale, lanes, left_out), *timeline.notes))
    return f'<figure class="timeline">{picture}<figcaption>{caption}</figcaption></figure>'


def _notes(scale: Scale, lanes: Sequence[Lane], left_out: int) -> list[str]:
    notes = [f"A line every {span(scale.step_us)}."] if scale.linear_us else []
    if scale.cuts:
        count = len(scale.cuts)
        them = "One long stretch is" if count == 1 else f"{count} long stretches are"
        notes.append(f"{them} cut short, between dashed lines, with the true length above.")
    tones = {bar.tone for lane in lanes for bar in lane.bars}
    notes += [told for tone, told in _MEANINGS if tone in tones]
    if left_out:
        notes.append(f"{left_out} more lanes are left out.")
    return notes


def _grid(scale: Scale, height: int) -> str:
    return "".join(
        f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="{_TOP - 4}" y2="{height}"/>' for x, _, _ in scale.grid()
    )


def _axis(scale: Scale) -> str:
    """Above, the lengths of cut stretches; below, times since the start. Labels without room are left out."""
    texts = [((cut.left + cut.right) / 2, span(cut.length_us), _LENGTHS_Y) for cut in scale.cuts]
    firsts = [(x, f"+{span(since)}" if since else "0", _TIMES_Y) for x, since, is_first in scale.grid() if is_first]
    others = [(x, f"+{span(since)}", _TIMES_Y) for x, since, is_first in scale.grid() if not is_first]
    drawn = []
    for row in (texts, [*firsts, *others]):
        taken: list[float] = []
        told: set[str] = set()
        for x, text, y in row:
            # After days, times that differ by milliseconds have the same text.
            if (y == _LENGTHS_Y or text not in told) and all(abs(x - other) >= _LABEL_WIDTH for other in taken):
                taken.append(x)
                told.add(text)
                anchor = "start" if x < _LABEL_WIDTH / 2 else "end" if x > 100 - _LABEL_WIDTH / 2 else "middle"
                drawn.append(f'<text class="axis" x="{x:.2f}%" y="{y}" text-anchor="{anchor}">{escape(text)}</text>')
    return "".join(drawn)


def _cut(left: float, right: float, height: int, told: str) -> str:
    """A gap through all lanes in the middle of the stretch, so that bars that cross it show on both sides."""
    third = (right - left) / 3
    start, end = left + third, right - third
    edges = "".join(
        f'<line class="edge" x1="{x:.2f}%" x2="{x:.2f}%" y1="{_TOP - 22}" y2="{height}"/>' for x in (start, end)
    )
    gap = f'<rect class="cut" x="{start:.2f}%" width="{third:.2f}%" y="{_TOP - 22}" height="{height - _TOP + 22}"/>'
    return f"<g><title>{escape(told)}</title>{gap}{edges}</g>"


def _lane(lane: Lane, scale: Scale, top: int, finest: float) -> str:
    bars = "".join(_bar(*drawn, top) for drawn in _merged(lane.bars, scale, finest))
    dots = sorted({round(min(99.0, max(1.0, scale.at(at))), 1) for at in lane.marks})
    marks = "".join(f'<circle class="mark" cx="{x:.1f}%" cy="{top + _BAR_TOP + _BAR_HEIGHT / 2}" r="5"/>' for x in dots)
    return (
        f'<g class="{escape(lane.kind)}"><title>{escape(_label(lane))}</title>'
        f'<line class="row" x1="0%" x2="100%" y1="{top}" y2="{top}"/>{bars}{marks}</g>'
    )


def _merged(bars: Iterable[Bar], scale: Scale, finest: float) -> list[tuple[float, float, Tone]]:
    """(left, right, tone) in percent; bars of one tone that touch or nearly touch are merged."""
    drawn: list[tuple[float, float, Tone]] = []
    for tone in Tone:
        places = sorted((scale.at(bar.start_us), scale.at(bar.end_us)) for bar in bars if bar.tone is tone)
        last: tuple[float, float] | None = None
        for left, right in places:
            if last is not None and left - last[1] < finest and len(places) > 1:
                last = (last[0], max(last[1], right))
                drawn[-1] = (*last, tone)
            else:
                last = (left, right)
                drawn.append((left, right, tone))
    return drawn


def _bar(left: float, right: float, tone: Tone, top: int) -> str:
    width = max(right - left, _SHORTEST)
    left = min(left, 100.0 - width)
    shape = (
        f'<rect class="{tone.value}" x="{left:.3f}%" width="{width:.3f}%" y="{top + _BAR_TOP}" '
        f'height="{_BAR_HEIGHT}" rx="2"/>'
    )
    if tone is not Tone.FAILED:
        return shape
    x, anchor = (left + width, "start") if left + width < 95 else (left, "end")
    return f'{shape}<text class="cross" x="{x:.3f}%" y="{top + _BAR_TOP + 11}" text-anchor="{anchor}">✕</text>'


def _label(lane: Lane) -> str:
    return f"{lane.label} · {lane.note}" if lane.note else lane.label


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"
