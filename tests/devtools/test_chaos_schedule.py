"""The same seed gives the same run: the schedule of faults and what users do."""

from __future__ import annotations

from itertools import islice, pairwise

import orjson
import pytest

from devtools.chaos.schedule import DECK, Schedule, Target, make_schedule, read_schedule
from devtools.chaos.stories import Kind, Story, Vote, stories

HOUR_S = 3_600.0


def told(seed: int, user: int = 1, count: int = 400) -> list[Story]:
    return list(islice(stories(seed, user, tool_url="http://tools"), count))


def test_a_schedule_is_a_function_of_its_seed_and_survives_a_file() -> None:
    first = make_schedule(7, 300, users=6)
    assert make_schedule(7, 300, users=6) == first
    assert make_schedule(8, 300, users=6).strikes != first.strikes
    assert read_schedule(first.dumps()) == first


def test_in_an_hour_every_fault_of_every_target_falls() -> None:
    fallen = {(planned.target, planned.strike) for planned in make_schedule(1, HOUR_S, users=1).strikes}
    assert fallen == {(target, strike) for target, strikes in DECK.items() for strike in strikes}


@pytest.mark.parametrize("seed", range(20))
def test_a_target_is_struck_by_one_fault_at_a_time_and_all_are_over_at_the_end(seed: int) -> None:
    schedule = make_schedule(seed, 600, users=1)
    free_from = dict.fromkeys(Target, 0.0)
    for planned in schedule.strikes:
        assert planned.at_s >= free_from[planned.target]
        free_from[planned.target] = planned.at_s + planned.for_s
    assert max(free_from.values()) <= schedule.seconds + 0.01
    assert [planned.at_s for planned in schedule.strikes] == sorted(planned.at_s for planned in schedule.strikes)


def test_only_what_is_asked_for_is_struck() -> None:
    schedule = make_schedule(1, 600, users=1, targets=(Target.REDIS,))
    assert {planned.target for planned in schedule.strikes} == {Target.REDIS}


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"seed": 1}', b'{"seed":1,"seconds":1,"users":1,"strikes":[[1,"x","y",1]]}']
)
def test_what_is_no_schedule_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        read_schedule(text)


def test_stories_are_a_function_of_seed_and_user() -> None:
    assert told(3) == told(3)
    assert told(3) != told(4)
    assert told(3, user=2) != told(3)


def test_users_do_all_there_is() -> None:
    found = told(1)
    assert {story.kind for story in found} == set(Kind)
    assert {vote for story in found for vote in story.votes} == set(Vote)
    assert len({story.mark for story in found}) == len(found)
    assert found[0].opens
    assert any(story.closes for story in found)


def test_every_message_is_a_script_that_names_its_story() -> None:
    for story in told(1):
        assert orjson.loads(story.content.removeprefix("#script "))["key"] == story.mark


def test_a_session_that_is_closed_is_followed_by_a_new_one() -> None:
    found = told(1)
    for story, following in pairwise(found):
        assert following.opens or not story.closes


def test_a_schedule_names_its_users() -> None:
    assert isinstance(make_schedule(1, 60, users=3), Schedule)
    assert make_schedule(1, 60, users=3).users == 3
