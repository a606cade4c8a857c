"""The keeper of a task hub's identity, without a host."""

from __future__ import annotations

from devtools.histories.player import Play
from orchestrators import keeper as keeper_module
from shared.durable.names import CANCEL_EVENT, KEEPER, KEEPER_INSTANCE


def test_it_waits_for_ever_and_needs_nothing_for_that() -> None:
    play = Play(keeper_module.keeper, KEEPER, KEEPER_INSTANCE, {"hub": "h"}).begin()
    assert (play.activities, play.timers, play.children) == ({}, {}, {})
    assert not play.hear(CANCEL_EVENT).is_over
