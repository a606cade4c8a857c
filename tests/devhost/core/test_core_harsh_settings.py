"""What turns a harsh engine on, and what it draws."""

from __future__ import annotations

import pytest

from devhost.harsh import HARDSHIPS, Harsh, from_settings

ON = {"DEVHOST_ENGINE": "harsh"}


@pytest.mark.parametrize("settings", [{}, {"DEVHOST_ENGINE": ""}, {"DEVHOST_ENGINE": "kind", "DEVHOST_HARSH": "all=1"}])
def test_a_host_is_kind_unless_it_is_told_otherwise(settings: dict[str, str]) -> None:
    assert from_settings(settings) is None


def test_a_seed_is_drawn_when_none_is_given() -> None:
    seeds = {harsh.seed for _ in range(20) if (harsh := from_settings(ON)) is not None}
    assert len(seeds) > 1
    repeated = from_settings(ON | {"DEVHOST_HARSH_SEED": "12"})
    assert repeated is not None
    assert repeated.seed == 12


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("DEVHOST_ENGINE", "mean", "must be kind or harsh, not 'mean'"),
        ("DEVHOST_HARSH_SEED", "-1", "must be a whole number, not '-1'"),
        ("DEVHOST_HARSH_SECOND", "soon", "must be a number from 0 to 3600, not 'soon'"),
        ("DEVHOST_HARSH", "lost_start=2", "must be a number from 0 to 1, not '2'"),
        ("DEVHOST_HARSH", "lost_start", "must be a number from 0 to 1, not ''"),
        ("DEVHOST_HARSH", "rain=1", "'rain' is not known; known: all, late_message"),
    ],
)
def test_what_it_cannot_read_it_refuses_by_name(setting: str, value: str, told: str) -> None:
    with pytest.raises(ValueError, match=setting) as refused:
        from_settings(ON | {setting: value})
    assert told in str(refused.value)


def test_odds_are_changed_one_by_one_or_all_together() -> None:
    harsh = from_settings(ON | {"DEVHOST_HARSH": "all=0, lost_start=1"})
    assert harsh is not None
    assert [name for name in HARDSHIPS if harsh.strikes(name)] == ["lost_start"]
    assert harsh.happened == {"lost_start": 1}


@pytest.mark.parametrize(("odds", "is_engines"), [("all=0,late_output=1", False), ("all=0,lost_start=0.1", True)])
def test_the_engine_stays_kind_when_only_the_host_is_harsh(odds: str, is_engines: bool) -> None:
    harsh = from_settings(ON | {"DEVHOST_HARSH": odds})
    assert harsh is not None
    assert (harsh.of_engine() is harsh) == is_engines


def test_a_hardship_strikes_about_as_often_as_its_odds_say() -> None:
    harsh = Harsh(1, {"lost_start": 0.3})
    assert sum(harsh.strikes("lost_start") for _ in range(2_000)) == pytest.approx(600, abs=80)


def test_delays_are_within_the_tables_and_last_as_long_as_a_second_does() -> None:
    harsh = Harsh(1, second=0.001)
    shortest, longest = HARDSHIPS["late_work"].seconds
    delays = [harsh.delay_s("late_work") for _ in range(100)]
    assert shortest / 1_000 <= min(delays) < max(delays) <= longest / 1_000


def test_what_is_drawn_for_one_function_does_not_depend_on_the_others() -> None:
    """Side by side their order is nobody's; the seed still repeats each."""
    alone, beside = Harsh(3, {"repeated_activity": 0.5}), Harsh(3, {"repeated_activity": 0.5})
    draws = []
    for _ in range(50):
        beside.strikes("repeated_activity", "other")
        draws.append(beside.strikes("repeated_activity", "echo"))
    assert draws == [alone.strikes("repeated_activity", "echo") for _ in range(50)]
