"""The table of what the people of a session may do, and what is said elsewhere because of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import NotFound, no_such_session
from shared.rights import RIGHTS, Action, may, require, who

QUERIES = Path(__file__).resolve().parents[3] / "shared" / "adapters" / "postgres"


def test_everyone_in_a_session_reads_it_as_the_statements_that_join_participants_say() -> None:
    assert set(RIGHTS[Action.READ]) == {"owner", "write", "read"}


def test_statements_that_name_an_access_mean_who_may_post() -> None:
    named = {path.name for path in QUERIES.rglob("*.sql") if "access = 'write'" in path.read_text("utf-8")}

    assert named == {"steps.sql"}, "a turn goes on as long as its user may post"
    assert set(RIGHTS[Action.POST]) == {"owner", "write"}


def test_the_table_says_something_of_every_action_and_the_owner_may_do_all_but_leave() -> None:
    assert set(RIGHTS) == set(Action)
    assert [action for action in Action if not may("owner", action)] == [Action.LEAVE]


@pytest.mark.parametrize("action", Action)
def test_a_stranger_is_told_what_somebody_without_a_session_is(action: Action) -> None:
    with pytest.raises(NotFound) as caught:
        require(None, action)

    assert str(caught.value) == str(no_such_session())


def test_who_is_in_it_is_told_whose_it_is() -> None:
    with pytest.raises(NotFound, match="the owner only"):
        require("write", Action.CHANGE)
    with pytest.raises(NotFound, match="the owner and participants who may write only"):
        require("read", Action.POST)
    assert who(Action.SHARE, Action.LEAVE) == "everyone in the session"
