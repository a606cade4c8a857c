"""Filling a new session from a template, and what the presets promise."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.errors import InvalidInput
from shared.sessions.features.models import NewTag, NewTagName, NewTemplate, Template
from shared.sessions.features.presets import SYSTEM_TAGS, SYSTEM_TEMPLATES
from shared.sessions.features.templates import filled
from shared.sessions.models import NewSession, SessionConfig

TEMPLATE = Template(
    id="t",
    name="The template's own name",
    system=False,
    session_name="Weekly report",
    agent_id="assistant",
    config=SessionConfig(model="big", max_steps=3),
    tags=["work", "report"],
    metadata={"team": "a", "room": 1},
)


def test_what_is_left_out_comes_from_the_template() -> None:
    made = filled(NewSession(template="t"), TEMPLATE)

    assert (made.name, made.agent_id, made.tags) == ("Weekly report", "assistant", ["work", "report"])
    assert (made.config.model, made.config.max_steps) == ("big", 3)
    assert made.metadata == {"team": "a", "room": 1}


def test_what_is_sent_wins_setting_by_setting_and_tags_and_metadata_add_up() -> None:
    body = NewSession(
        id="mine",
        template="t",
        name="Mine",
        config=SessionConfig(max_steps=9),
        tags=["report", "mine"],
        metadata={"room": 2},
    )

    made = filled(body, TEMPLATE)

    assert (made.id, made.name, made.tags) == ("mine", "Mine", ["work", "report", "mine"])
    assert (made.config.model, made.config.max_steps) == ("big", 9)
    assert made.metadata == {"team": "a", "room": 2}


def test_a_default_that_is_sent_wins_too_and_null_takes_back() -> None:
    body = NewSession.model_validate_json(
        b'{"template": "t", "name": null, "agent_id": null, "config": {"max_steps": 8, "model": null}}'
    )

    made = filled(body, TEMPLATE)

    assert (made.name, made.agent_id, made.config.max_steps, made.config.model) == (None, None, 8, None)


def test_tags_that_are_too_many_together_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        filled(NewSession(template="t", tags=[f"n{n}" for n in range(31)]), TEMPLATE)

    assert caught.value.errors[0]["field"] == "tags"


def test_there_are_six_preset_tags_and_five_system_templates() -> None:
    assert len({tag.name for tag in SYSTEM_TAGS}) == len(SYSTEM_TAGS) == 6
    assert len({template.id for template in SYSTEM_TEMPLATES}) == len(SYSTEM_TEMPLATES) == 5
    assert all(item.system for item in (*SYSTEM_TAGS, *SYSTEM_TEMPLATES))


@pytest.mark.parametrize("tag", SYSTEM_TAGS, ids=lambda tag: tag.name)
def test_a_preset_tag_keeps_the_rules_of_own_ones(tag: Any) -> None:
    assert NewTag(**tag.model_dump(include={"name", "color", "description"})).name == tag.name


@pytest.mark.parametrize("template", SYSTEM_TEMPLATES, ids=lambda template: template.id)
def test_a_system_template_makes_a_session_that_could_be_asked_for(template: Template) -> None:
    NewTemplate(**template.model_dump(include={"name", "description", "session_name", "agent_id", "tags", "metadata"}))
    made = filled(NewSession(template=template.id), template)

    assert NewSession.model_validate_json(made.model_dump_json()) == made
    # Reasoning models refuse one.
    assert made.config.temperature is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a ",
        "a,b",
        "a\nb",
        "a\x00",
        "a\x7f",
        "a\u202eb",
        "a\u200bb",
        "a\u2028b",
        "\ud800",
        "x" * 65,
        "\ufeffa",
    ],
)
def test_a_new_tag_has_a_name_that_can_be_seen(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(NewTagName).validate_python(name)


@pytest.mark.parametrize("name", ["a", "a b", "a/b", "50%", "ünï", "日本", "😀", "'; DROP TABLE tags", "<b>", "x" * 64])
def test_a_new_tag_may_be_called_anything_else(name: str) -> None:
    assert TypeAdapter(NewTagName).validate_python(name) == name
