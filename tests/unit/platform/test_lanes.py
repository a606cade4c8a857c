"""Lanes: bounded, fair, and free of charge for those who do not wait."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import ExitStack

import pytest

from shared.errors import ErrorCode, Transient
from shared.lanes import Lane, LaneLimits, Permit, Place

LIMITS = LaneLimits(at_once=6, per_user=3, per_model=4, told_after_s=10)
BACK_S = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lane(clock: Clock) -> Lane:
    return Lane("answers", LIMITS, clock=clock)


def _enter(lane: Lane, key: str, user: str, model: str = "m", *, waited_s: float = 0.0) -> Permit | None:
    return lane.enter(key, Place(user, model), waited_s=waited_s, back_in_s=BACK_S)


def _fill(lane: Lane, user: str, count: int, model: str = "m") -> list[Permit]:
    permits = [_enter(lane, f"{user}-{number}", user, model) for number in range(count)]
    assert None not in permits
    return [permit for permit in permits if permit is not None]


def test_one_users_work_leaves_places_to_others(lane: Lane) -> None:
    _fill(lane, "ann", LIMITS.per_user)
    assert _enter(lane, "ann-more", "ann") is None
    assert _enter(lane, "bob-1", "bob") is not None


def test_one_models_work_leaves_places_to_other_models(lane: Lane) -> None:
    for number in range(LIMITS.per_model):
        _fill(lane, f"user-{number}", 1, "hangs")
    assert _enter(lane, "more", "bob", "hangs") is None
    assert _enter(lane, "other", "bob", "lives") is not None


def test_a_place_is_free_when_its_work_has_ended_however_it_did(lane: Lane) -> None:
    for _ in range(3 * LIMITS.at_once):
        permit = _enter(lane, "ann-1", "ann")
        assert permit is not None
        with pytest.raises(ZeroDivisionError), permit:
            raise ZeroDivisionError
    assert lane.running == 0


def test_who_has_waited_longest_is_next_also_when_others_ask_first(lane: Lane, clock: Clock) -> None:
    running = _fill(lane, "ann", 3)
    for key in ("first", "second"):
        assert _enter(lane, key, "ann") is None
        clock.now += 1
    with running[0]:
        pass
    assert _enter(lane, "newcomer", "ann") is None
    assert _enter(lane, "second", "ann") is None
    assert _enter(lane, "first", "ann") is not None


def test_who_waited_for_another_process_keeps_its_age(lane: Lane, clock: Clock) -> None:
    running = _fill(lane, "ann", 3)
    assert _enter(lane, "here", "ann") is None
    clock.now += 1
    with running[0]:
        pass
    assert _enter(lane, "from elsewhere", "ann", waited_s=30) is not None


def test_a_place_is_kept_only_for_who_comes_back_in_time(lane: Lane, clock: Clock) -> None:
    running = _fill(lane, "ann", 3)
    assert _enter(lane, "gone", "ann") is None
    with running[0]:
        pass
    clock.now += BACK_S - 0.1
    assert _enter(lane, "newcomer", "ann") is None
    clock.now += 0.2
    assert _enter(lane, "newcomer", "ann") is not None


def test_who_gives_up_is_waited_for_no_longer(lane: Lane) -> None:
    running = _fill(lane, "ann", 3)
    assert _enter(lane, "cancelled", "ann") is None
    lane.give_up("cancelled")
    with running[0]:
        pass
    assert _enter(lane, "newcomer", "ann") is not None


def test_a_user_who_may_not_start_more_keeps_nobody_else_waiting(lane: Lane) -> None:
    """However long they wait, they would take three of the six places."""
    _fill(lane, "ann", 3)
    for number in range(50):
        assert _enter(lane, f"waiting-{number}", "ann", waited_s=100) is None
    assert _enter(lane, "bob-1", "bob") is not None


def test_a_queue_of_one_user_is_kept_no_more_places_than_it_may_have(lane: Lane) -> None:
    wide = [permit for user in ("u", "v", "w") for permit in _fill(lane, user, 2, f"model-of-{user}")]
    for number in range(50):
        assert _enter(lane, f"waiting-{number}", "ann", waited_s=100) is None
    for permit in wide[:4]:
        with permit:
            pass
    assert _enter(lane, "bob-1", "bob") is not None, "ann takes three of four"


def test_work_of_which_nobody_knows_yet_whose_it_is_counts_as_everybodys(lane: Lane) -> None:
    permits = [lane.enter_unknown() for _ in range(LIMITS.per_user)]
    assert None not in permits
    assert lane.enter_unknown() is None
    assert _enter(lane, "bob-1", "bob") is None
    for permit in permits:
        assert permit is not None
        permit.take(Place("ann", "m"))
    lane.give_up("bob-1")
    assert lane.enter_unknown() is None, "it could be ann's"
    assert _enter(lane, "ann-more", "ann") is None
    assert _enter(lane, "bob-1", "bob") is not None


def test_nobody_gets_in_unknown_past_those_who_wait(lane: Lane) -> None:
    _fill(lane, "ann", 3)
    assert _enter(lane, "waits", "ann") is None
    assert lane.enter_unknown() is None


async def test_health_hears_of_a_wait_that_is_too_long_and_of_its_end(lane: Lane, clock: Clock) -> None:
    running = _fill(lane, "ann", 3)
    for _ in range(3):
        await lane.check()
        assert _enter(lane, "waits", "ann") is None
        clock.now += 4
    with pytest.raises(Transient) as caught:
        await lane.check()
    assert caught.value.code is ErrorCode.RATE_LIMITED
    with running[0]:
        pass
    with ExitStack() as stack:
        permit = _enter(lane, "waits", "ann")
        assert permit is not None
        stack.enter_context(permit)
        await lane.check()


@pytest.mark.parametrize("seed", range(8))
def test_no_limit_is_ever_exceeded_and_everybody_gets_in(seed: int) -> None:
    """All that ask come back in time, in any order; what runs ends in any order."""
    chance, clock = random.Random(seed), Clock()
    lane = Lane("answers", LIMITS, clock=clock)
    todo = {f"{number}": Place(f"u{chance.randrange(4)}", f"m{chance.randrange(3)}") for number in range(80)}
    asked_at: dict[str, float] = {}
    running: dict[str, tuple[Permit, Place]] = {}
    order: dict[Place, list[str]] = {}
    while todo or running:
        clock.now += chance.random()
        if running and chance.random() < 0.4:
            with running.pop(chance.choice(list(running)))[0]:
                pass
        late = [key for key in todo if key in asked_at and clock.now - asked_at[key] > BACK_S - 2]
        for key in late or (chance.sample(list(todo), 1) if todo else []):
            place = todo[key]
            permit = lane.enter_unknown() if chance.random() < 0.2 else None
            if permit is not None:
                permit.take(place)
            else:
                permit = lane.enter(key, place, back_in_s=BACK_S)
            if permit is None:
                asked_at[key] = clock.now
                continue
            running[key] = permit, todo.pop(key)
            order.setdefault(place, []).append(key)
        users = Counter(place.user for _, place in running.values())
        models = Counter(place.model for _, place in running.values())
        assert len(running) == lane.running <= LIMITS.at_once
        assert max(users.values(), default=0) <= LIMITS.per_user
        assert max(models.values(), default=0) <= LIMITS.per_model
    assert lane.running == 0
    assert sum(map(len, order.values())) == 80
