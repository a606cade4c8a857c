"""Windows that are learned from refusals: soon found, never wider, and by model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.sessions.llm.protocol import ContextOverflow
from shared.sessions.llm.windows import GUESS_SECONDS, MAX_RATIO, Window, Windows

MOST_RESERVED = 8_192
MOST_TRIES = 5
LEAST = 128
LEAST_GUESS = 2_048


def _overflow(limit: int | None = None, read: int | None = None) -> ContextOverflow:
    return ContextOverflow(limit_tokens=limit, read_tokens=read)


def _still() -> float:
    return 0.0


@pytest.mark.parametrize(
    ("overflow", "asked", "answer", "learned"),
    [
        # llama.cpp: n_ctx and n_prompt_tokens. 8209 of theirs were 6000 of ours.
        (_overflow(4_096, 8_209), 6_000, None, Window(4_096, 8_209 / 6_000)),
        # The same, where we count more than they do: the ratio is never below one.
        (_overflow(4_096, 8_209), 12_000, None, Window(4_096, 1.0)),
        # vLLM: 112946 in the messages, 10000 in the completion, of 16384.
        (_overflow(16_384, 112_946), 100_000, 10_000, Window(16_384, 1.12946)),
        # vLLM, where the request was short and the answer it left room for was not: nothing of the ratio.
        (_overflow(4_096), 500, 16_000, Window(4_096, 1.0)),
        # ... and where both together just did not fit: (4096 * 1.1 - 3500) / 500.
        (_overflow(4_096), 500, 3_500, Window(4_096, 2.0112)),
        # A limit alone, below what was asked: that is reason enough.
        (_overflow(8_000), 9_000, None, Window(8_000, 1.0)),
        # A limit alone, above what was asked: then a token of ours is more of theirs. 8000 * 1.1 / 4000.
        (_overflow(8_000), 4_000, None, Window(8_000, 2.2)),
        (_overflow(8_000), 10, None, Window(8_000, MAX_RATIO)),
        # No number at all: six tenths of what was asked.
        (_overflow(), 10_000, None, Window(6_000, 1.0)),
        (_overflow(read=20_000), 10_000, None, Window(12_000, 2.0)),
        # ... though no model reads less than this.
        (_overflow(), LEAST_GUESS + 1, None, Window(LEAST_GUESS, 1.0)),
        (_overflow(limit=5), 1_000, None, Window(LEAST, 1.0)),
    ],
)
def test_what_a_first_refusal_teaches(
    overflow: ContextOverflow, asked: int, answer: int | None, learned: Window
) -> None:
    windows = Windows(_still)

    found = windows.learn("m", overflow, asked_tokens=asked, answer_tokens=answer)

    assert found is not None
    assert found.limit_tokens == learned.limit_tokens
    assert found.ratio == pytest.approx(learned.ratio)
    assert windows.of("m") == found
    assert windows.of("n") is None


def test_room_is_what_the_window_leaves_in_our_count() -> None:
    # (4096 - 1024) / 1.5 * 0.95
    assert Window(4_096, 1.5).room(reserve=1_024) == 1_945
    assert Window(200, 4.0).room(reserve=100) == LEAST
    # 4096 - 1945 * 1.5 / 0.95: what was reserved, and a fraction.
    assert Window(4_096, 1.5).left(reads=1_945) == 1_024


def test_what_was_guessed_is_forgotten_and_what_was_said_is_not() -> None:
    now = 0.0
    windows = Windows(lambda: now)
    windows.learn("silent", _overflow(), asked_tokens=10_000)
    windows.learn("telling", _overflow(limit=4_096, read=12_000), asked_tokens=6_000)
    windows.note("open", 8_192)
    silent, telling = windows.of("silent"), windows.of("telling")
    assert silent is not None
    assert telling is not None
    assert (silent.limit_tokens, telling.limit_tokens, telling.ratio) == (6_000, 4_096, 2.0)

    now = GUESS_SECONDS - 1
    assert (windows.of("silent"), windows.of("telling")) == (silent, telling)
    now = GUESS_SECONDS
    assert windows.of("silent") is None
    telling = windows.of("telling")
    assert telling is not None
    assert (telling.limit_tokens, telling.ratio) == (4_096, 1.0), "whose text had so many tokens is not known any more"
    opened = windows.of("open")
    assert opened is not None
    assert opened.limit_tokens == 8_192


def test_a_short_request_that_is_refused_for_its_length_makes_no_tiny_window() -> None:
    """Of a server that is wrong, or says so for another reason: it is one process's model for every session."""
    windows = Windows(_still)

    assert windows.learn("m", _overflow(), asked_tokens=400) is None
    assert windows.of("m") is None
    for asked in (3_000, 2_500, 2_100):
        windows.learn("m", _overflow(), asked_tokens=asked)
    window = windows.of("m")
    assert window is not None
    assert window.limit_tokens == LEAST_GUESS


@given(window=st.builds(Window, st.integers(128, 10**6), st.floats(1, MAX_RATIO)), reserve=st.integers(0, 10**6))
def test_what_is_reserved_is_left_when_the_room_is_used_up(window: Window, reserve: int) -> None:
    room = window.room(reserve=min(reserve, window.limit_tokens // 2))

    if room > LEAST:
        # Less one, since both are rounded down.
        assert window.left(reads=room) >= min(reserve, window.limit_tokens // 2) - 1


@st.composite
def refusals(draw: st.DrawFn) -> tuple[ContextOverflow, int, int | None]:
    tokens = st.integers(1, 10**6)
    return (
        _overflow(draw(st.none() | tokens), draw(st.none() | tokens)),
        draw(st.integers(0, 10**6)),
        draw(st.none() | tokens),
    )


@given(st.lists(refusals(), min_size=1, max_size=8))
def test_whatever_a_server_says_a_window_never_becomes_wider(
    said: list[tuple[ContextOverflow, int, int | None]],
) -> None:
    windows = Windows(_still)
    for overflow, asked, answer in said:
        before = windows.of("m")
        after = windows.learn("m", overflow, asked_tokens=asked, answer_tokens=answer)

        if after is None:
            assert (before, windows.of("m")) == (None, None)
            continue
        assert after.limit_tokens >= LEAST
        assert 1.0 <= after.ratio <= MAX_RATIO
        if before is not None:
            assert after.limit_tokens <= before.limit_tokens
            assert after.ratio >= before.ratio


@given(st.lists(refusals(), min_size=1, max_size=8))
def test_what_was_made_to_fit_and_is_refused_makes_it_narrower(
    said: list[tuple[ContextOverflow, int, int | None]],
) -> None:
    windows = Windows(_still)
    windows.learn("m", _overflow(limit=100_000), asked_tokens=200_000)
    for overflow, _, _ in said:
        before = windows.of("m")
        assert before is not None
        reserve = min(before.limit_tokens // 4, MOST_RESERVED)
        after = windows.learn("m", overflow, asked_tokens=before.room(reserve=reserve))
        assert after is not None

        is_least = before.room(reserve=0) == LEAST or before.ratio == MAX_RATIO
        assert is_least or after.room(reserve=0) < before.room(reserve=0)


@given(asked=st.integers(60_001, 10**6), times=st.integers(1, 20), limit=st.sampled_from([None, 60_000]))
def test_what_was_known_not_to_fit_teaches_nothing_new(asked: int, times: int, limit: int | None) -> None:
    """Somebody sends the same huge message again and again: the window of everybody else stays as it is."""
    windows = Windows(_still)
    first = windows.learn("m", _overflow(limit=60_000), asked_tokens=60_001)

    for _ in range(times):
        assert windows.learn("m", _overflow(limit=limit), asked_tokens=asked) == first


SAYS: dict[str, Callable[[int, int], ContextOverflow]] = {
    "both numbers": lambda limit, read: _overflow(limit, read),
    "the limit": lambda limit, read: _overflow(limit),
    "nothing": lambda limit, read: _overflow(),
}


@pytest.mark.parametrize("says", SAYS)
@given(
    true_window=st.integers(512, 200_000),
    ratio=st.floats(0.5, 4),
    times=st.floats(1, 8),
    reserve_share=st.integers(4, 8),
)
def test_a_request_fits_within_five_tries_whatever_the_server_says(
    says: str, true_window: int, ratio: float, times: float, reserve_share: int
) -> None:
    """The loop of the executor: what is refused is made as short as the window is now taken for.

    ratio: the server's tokens for one of our estimate. times: how much more the conversation is than what is read.
    """
    if says == "nothing":
        true_window = max(true_window, int(LEAST_GUESS * max(1.0, ratio)))
    windows = Windows(_still)
    asked = int(true_window / ratio * times) + 1
    for _ in range(MOST_TRIES):
        reads = int(asked * ratio)
        if reads <= true_window:
            break
        window = windows.learn("m", SAYS[says](true_window, reads), asked_tokens=asked)
        assert window is not None
        asked = min(asked, window.room(reserve=min(window.limit_tokens // reserve_share, MOST_RESERVED)))
    else:
        pytest.fail(f"still {asked} tokens asked")

    # And not much less than there is: what is left out is lost, or costs a summary.
    if windows.of("m") is not None:
        assert reads >= true_window * 0.1 or asked == LEAST
