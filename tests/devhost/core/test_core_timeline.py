"""A timeline as a picture: everything within it, to scale as far as it can be, escaped, and never large."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devhost.extensions.timeline import MOST_LANES, Bar, Lane, Timeline, Tone, draw
from devhost.extensions.timescale import Scale, span

_MS, _S, _DAY = 1_000, 1_000_000, 86_400_000_000
_SVG = "{http://www.w3.org/2000/svg}"


def _picture(*lanes: Lane) -> ElementTree.Element:
    html = draw(Timeline("Timeline", "in words", lanes))
    figure = ElementTree.fromstring(html)  # our own
    found = figure.find(f"{_SVG}svg")
    assert found is not None
    return found


def _caption(*lanes: Lane) -> str:
    return draw(Timeline("Timeline", "in words", lanes)).partition("<figcaption>")[2]


def _percent(element: ElementTree.Element, name: str) -> float:
    return float(element.attrib[name].removesuffix("%"))


_instants = st.integers(0, 1_000 * _DAY)
_bars = st.builds(
    lambda ends, tone: Bar(min(ends), max(ends), tone), st.tuples(_instants, _instants), st.sampled_from(Tone)
)
_lanes = st.builds(
    Lane,
    st.sampled_from(["activity", "timer", "event"]),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=80),
    st.lists(_bars, max_size=6),
    st.lists(_instants, max_size=4),
)


@given(st.lists(_lanes, min_size=1, max_size=8))
def test_everything_lies_within_the_picture(lanes: list[Lane]) -> None:
    if not draw(Timeline("t", "s", lanes)):
        assert not any(lane.bars or lane.marks for lane in lanes)
        return
    svg = _picture(*lanes)
    height = float(svg.attrib["height"])
    for element in svg.iter():
        if element.tag == f"{_SVG}rect":
            assert _percent(element, "x") >= 0
            assert _percent(element, "x") + _percent(element, "width") <= 100.001
            assert float(element.attrib["y"]) + float(element.attrib["height"]) <= height
        for name in ("x1", "x2", "cx"):
            if name in element.attrib:
                assert 0 <= _percent(element, name) <= 100
        for name in ("y1", "y2", "cy"):
            if name in element.attrib:
                assert 0 <= float(element.attrib[name]) <= height


@given(st.lists(_instants, min_size=1, max_size=40), st.lists(st.tuples(_instants, _instants), max_size=10))
def test_the_order_of_instants_is_kept(instants: list[int], busy: list[tuple[int, int]]) -> None:
    scale = Scale(instants, busy)
    places = [scale.at(at) for at in sorted(instants)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in [*places, *(x for x, _, _ in scale.grid())])


def test_a_wait_of_days_is_cut_so_that_work_of_milliseconds_is_seen() -> None:
    wait_end = 400 * _MS + 3 * _DAY
    work, wait, more = (0, 400 * _MS), (400 * _MS, wait_end), (wait_end, wait_end + 200 * _MS)
    scale = Scale([*work, *wait, *more], [work, more])
    [cut] = scale.cuts
    assert (cut.length_us, round(cut.right - cut.left)) == (3 * _DAY, 6)
    # What is left of the width is shared by what remains, to scale.
    assert scale.at(400 * _MS) == pytest.approx(94 * 2 / 3)
    caption = _caption(Lane("activity", "a", [Bar(*work), Bar(*more)]), Lane("timer", "t", [Bar(*wait)]))
    assert "One long stretch is cut short" in caption


def test_times_of_like_size_are_to_scale_and_nothing_is_cut() -> None:
    scale = Scale([0, _S, 4 * _S], [(0, 4 * _S)])
    assert (scale.cuts, scale.at(_S)) == ([], pytest.approx(25))
    # A line every half second: 4 s / 0.5 s are eight.
    assert [(x, since) for x, since, _ in scale.grid()] == [(step * 12.5, step * _S // 2) for step in range(9)]


def test_work_is_cut_later_than_idleness() -> None:
    # Ten seconds beside milliseconds: a model that thinks is drawn, a wait is not.
    assert Scale([0, _MS, 10 * _S], [(0, 10 * _S)]).cuts == []
    assert [cut.length_us for cut in Scale([0, _MS, 10 * _S], []).cuts] == [10 * _S - _MS]


@pytest.mark.parametrize(
    ("length_us", "told"),
    [
        (0, "0 ms"),
        (400, "0.4 ms"),
        (5 * _MS, "5 ms"),
        (1_250 * _MS, "1.25 s"),
        (59_999 * _MS, "1 min"),
        (125 * _S, "2 min 5 s"),
        (3_600 * _S, "1 h"),
        (3 * _DAY + 4 * 3_600 * _S, "3 d 4 h"),
    ],
)
def test_a_length_of_time_is_told_in_units_that_fit(length_us: int, told: str) -> None:
    assert span(length_us) == told


def test_hostile_names_stay_text() -> None:
    hostile = '</title><script>alert(1)</script>"\' onload="x'
    html = draw(Timeline(hostile, hostile, [Lane("activity", hostile, [Bar(0, 1)], note=hostile)], notes=[hostile]))
    assert "<script" not in html
    assert html.count(" onload=") == html.count("&quot;&#x27; onload=")


def test_a_failure_has_a_mark_and_not_only_a_colour() -> None:
    svg = _picture(Lane("activity", "a", [Bar(0, 5, Tone.FAILED)]), Lane("activity", "b", [Bar(5, 9)]))
    assert [text.text for text in svg.iter(f"{_SVG}text") if text.attrib.get("class") == "cross"] == ["✕"]


def test_ten_thousand_bars_make_a_small_picture() -> None:
    bars = [Bar(at * 7 * _S, at * 7 * _S + (at % 90) * 10 * _MS, list(Tone)[at % 3]) for at in range(10_000)]
    html = draw(Timeline("t", "s", [Lane("activity", "a", bars), Lane("timer", "t", bars[::2])]))
    assert len(html) < 400_000


def test_lanes_beyond_the_limit_are_counted() -> None:
    lanes = [Lane("activity", f"n{number}", [Bar(number, number + 1)]) for number in range(MOST_LANES + 17)]
    assert len(_picture(*lanes).findall(f"{_SVG}g")) == MOST_LANES
    assert "17 more lanes are left out." in _caption(*lanes)


def test_there_is_no_picture_of_nothing() -> None:
    assert draw(Timeline("t", "s", [Lane("activity", "a")])) == ""
