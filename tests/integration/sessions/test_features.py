"""Tags and templates over PostgreSQL: whose they are, what repeats do, and a session from a template in one call."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.features.features import PostgresTags, PostgresTemplates
from shared.adapters.postgres.sessions.lifecycle import PostgresLifecycle
from shared.errors import AppError, Conflict, ErrorCode, Gone, InvalidInput, InvalidState, NotFound
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.features.models import NewTag, NewTemplate, Tag
from shared.sessions.features.presets import SYSTEM_TAGS, SYSTEM_TEMPLATES
from shared.sessions.features.tags import MAX_OWN_TAGS, TagService
from shared.sessions.features.templates import MAX_OWN_TEMPLATES, TemplateService
from shared.sessions.models import NewSession, SessionConfig, SessionStatus
from shared.sessions.service import SessionService
from tests.integration.domain import OWNER, READER, STRANGER, WRITER, Stores, utc_now

pytestmark = pytest.mark.integration

ANN, WILL, RITA, MALLORY = (Principal(name, frozenset(Role)) for name in (OWNER, WRITER, READER, STRANGER))
NASTY = ["'; DROP TABLE tags; --", "{a}", "a/b", "100%", '"', "\\", "NULL", "ünï 日本 😀", "<script>"]


@pytest.fixture
def tags(stores: Stores) -> TagService:
    return TagService(PostgresTags(stores.pool), PostgresLifecycle(stores.pool))


@pytest.fixture
def templates(stores: Stores) -> TemplateService:
    return TemplateService(PostgresTemplates(stores.pool), AgentCatalog(PostgresAgents(stores.pool)))


def somebody() -> Principal:
    """A person without a past."""
    return Principal(new_id(), frozenset({Role.USER}))


# Tags. -----------------------------------------------------------------------------------------


async def test_everybody_has_the_presets_and_only_oneself_ones_own(tags: TagService) -> None:
    ann, eve = somebody(), somebody()
    made = [await tags.create(NewTag(name=name, color="#00ff00", description="mine"), ann) for name in ("zoo", "alpha")]

    assert await tags.list_for(ann) == [*SYSTEM_TAGS, made[1], made[0]]
    assert await tags.list_for(eve) == [*SYSTEM_TAGS]


@pytest.mark.parametrize("preset", SYSTEM_TAGS, ids=lambda tag: tag.name)
async def test_a_preset_cannot_be_deleted_or_made_again(tags: TagService, preset: Tag) -> None:
    for attempt in (tags.delete(preset.name, ANN), tags.create(NewTag(name=preset.name), ANN)):
        with pytest.raises(Conflict):
            await attempt
    assert preset in await tags.list_for(ANN)


async def test_an_own_tag_that_became_a_preset_is_shown_once_and_can_be_deleted(
    tags: TagService, stores: Stores
) -> None:
    ann, preset = somebody(), SYSTEM_TAGS[0].name
    await stores.sql(
        b"INSERT INTO tags (owner_id, name, created_at) VALUES (%(u)s, %(n)s, now())", u=ann.user_id, n=preset
    )

    assert await tags.list_for(ann) == [*SYSTEM_TAGS]
    assert not (await tags.delete(preset, ann)).system
    with pytest.raises(Conflict):
        await tags.delete(preset, ann)


async def test_a_tag_is_made_once_and_deleted_once_and_by_its_owner(tags: TagService) -> None:
    ann, eve = somebody(), somebody()
    made = await tags.create(NewTag(name="mine"), ann)
    with pytest.raises(Conflict):
        await tags.create(NewTag(name="mine", color="#123456"), ann)
    with pytest.raises(NotFound):
        await tags.delete("mine", eve)

    assert await tags.delete("mine", ann) == made
    with pytest.raises(NotFound):
        await tags.delete("mine", ann)


async def test_two_that_make_the_same_tag_at_once_get_one(tags: TagService) -> None:
    ann = somebody()
    outcomes = await asyncio.gather(*(tags.create(NewTag(name="race"), ann) for _ in range(5)), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 4 + ["Tag"]


async def test_own_tags_and_templates_have_a_limit(
    tags: TagService, templates: TemplateService, stores: Stores
) -> None:
    ann = somebody()
    await stores.sql(
        b"INSERT INTO tags (owner_id, name, created_at) SELECT %(u)s, 't' || n, now() FROM generate_series(1, %(n)s) n",
        u=ann.user_id,
        n=MAX_OWN_TAGS,
    )
    await stores.sql(
        b"INSERT INTO session_templates (id, owner_id, name, config, tags, metadata, created_at)"
        b" SELECT %(u)s || n, %(u)s, 't' || n, '{}', '{}', '{}', now() FROM generate_series(1, %(n)s) n",
        u=ann.user_id,
        n=MAX_OWN_TEMPLATES,
    )

    for attempt in (tags.create(NewTag(name="more"), ann), templates.create(NewTemplate(name="more"), ann)):
        with pytest.raises(InvalidInput):
            await attempt
    with pytest.raises(Conflict):
        await tags.create(NewTag(name="t1"), ann)


@pytest.mark.parametrize("name", NASTY)
async def test_any_name_can_be_put_on_and_taken_off_again(tags: TagService, stores: Stores, name: str) -> None:
    session = await stores.session(tags=["first"])

    assert (await tags.put_on(session.id, name, ANN)).tags == ["first", name]
    assert (await stores.sessions.get(session.id, OWNER)).session.tags == ["first", name]
    assert (await tags.take_off(session.id, name, ANN)).tags == ["first"]
    made = await tags.create(NewTag(name=name), ANN)
    assert await tags.delete(name, ANN) == made


async def test_a_repeat_changes_nothing_not_even_when_the_session_was_changed(tags: TagService, stores: Stores) -> None:
    session = await stores.session()
    first = await tags.put_on(session.id, "x", ANN)
    assert await tags.put_on(session.id, "x", ANN) == first
    assert first.updated_at > session.updated_at

    off = await tags.take_off(session.id, "x", ANN)
    assert await tags.take_off(session.id, "x", ANN) == off
    assert off.tags == []


async def test_tags_put_on_at_once_all_stay_and_the_limit_holds(tags: TagService, stores: Stores) -> None:
    session = await stores.session(tags=[f"n{n}" for n in range(28)])
    outcomes = await asyncio.gather(
        *(tags.put_on(session.id, f"more{n}", ANN) for n in range(6)), return_exceptions=True
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, InvalidInput)]
    kept = (await stores.sessions.get(session.id, OWNER)).session.tags
    assert (len(refused), len(kept), len(set(kept))) == (2, 32, 32)
    # One that is there already is no more than a repeat.
    assert len((await tags.put_on(session.id, "n0", ANN)).tags) == 32


async def test_the_owner_tags_and_others_find_nothing(tags: TagService, stores: Stores) -> None:
    session = await stores.shared_session()
    await tags.put_on(session.id, "by-ann", ANN)
    for who in (WILL, RITA, MALLORY):
        for attempt in (
            tags.put_on(session.id, "x", who),
            tags.put_on(session.id, "by-ann", who),
            tags.take_off(session.id, "by-ann", who),
        ):
            with pytest.raises(NotFound) as caught:
                await attempt
            assert caught.value.code is ErrorCode.SESSION_NOT_FOUND

    assert (await stores.sessions.get(session.id, OWNER)).session.tags == ["by-ann"]


async def test_a_session_that_is_over_is_left_as_it_is(tags: TagService, stores: Stores) -> None:
    ended = await stores.session(tags=["a"])
    await stores.move(ended.id, SessionStatus.ENDED)
    long_ago = utc_now() - timedelta(hours=1)
    expired = await stores.session(now=long_ago, config=SessionConfig(expires_after_seconds=60), tags=["a"])

    for session, error in ((ended, InvalidState), (expired, Gone)):
        for attempt in (tags.put_on(session.id, "archived", ANN), tags.take_off(session.id, "a", ANN)):
            with pytest.raises(error):
                await attempt
        assert (await stores.sessions.get(session.id, OWNER)).session.tags == ["a"]


@pytest.mark.parametrize("name", ["", "a,b", "a\x00b", "a\u202eb", "x" * 65])
async def test_a_name_that_is_none_is_the_callers_mistake(tags: TagService, stores: Stores, name: str) -> None:
    session = await stores.session()
    for attempt in (tags.put_on(session.id, name, ANN), tags.delete(name, ANN)):
        with pytest.raises(AppError) as caught:
            await attempt
        assert caught.value.status in {404, 422}
    assert (await stores.sessions.get(session.id, OWNER)).session.tags == []


async def test_a_tag_from_elsewhere_can_be_taken_off_whatever_it_looks_like(tags: TagService, stores: Stores) -> None:
    session = await stores.session(tags=["a\u202eb"])

    assert (await tags.take_off(session.id, "a\u202eb", ANN)).tags == []


# Templates. ------------------------------------------------------------------------------------


async def test_templates_are_the_systems_and_ones_own(templates: TemplateService) -> None:
    ann, eve = somebody(), somebody()
    mine = await templates.create(
        NewTemplate(name="Mine", config=SessionConfig(max_steps=3), tags=["a", "a"], metadata={"k": [1]}), ann
    )

    assert mine.tags == ["a"]
    assert await templates.list_for(ann) == [*SYSTEM_TEMPLATES, mine]
    assert await templates.get(mine.id, ann) == mine
    assert await templates.list_for(eve) == [*SYSTEM_TEMPLATES]
    for attempt in (templates.get(mine.id, eve), templates.delete(mine.id, eve)):
        with pytest.raises(NotFound):
            await attempt
    assert await templates.delete(mine.id, ann) == mine
    with pytest.raises(NotFound):
        await templates.delete(mine.id, ann)


async def test_system_templates_cannot_be_deleted(templates: TemplateService) -> None:
    for template in SYSTEM_TEMPLATES:
        with pytest.raises(Conflict):
            await templates.delete(template.id, ANN)
        assert await templates.get(template.id, ANN) == template


async def test_a_template_name_is_ones_own_once(templates: TemplateService) -> None:
    ann, eve = somebody(), somebody()
    await templates.create(NewTemplate(name="Same"), ann)
    await templates.create(NewTemplate(name="Same"), eve)
    with pytest.raises(Conflict):
        await templates.create(NewTemplate(name="Same"), ann)


async def test_a_template_that_no_session_could_be_made_from_is_refused(templates: TemplateService) -> None:
    for body in (
        NewTemplate(name="a", agent_id="nobody"),
        NewTemplate(name="b", metadata={"k": "x" * 17_000}),
        NewTemplate(name="c", metadata={"k": "\x00"}),
        NewTemplate(name="d", description="\x00"),
    ):
        with pytest.raises(InvalidInput):
            await templates.create(body, somebody())


@pytest.mark.parametrize("template", SYSTEM_TEMPLATES, ids=lambda template: template.id)
async def test_a_session_from_a_system_template_in_one_call(service: SessionService, template: object) -> None:
    chosen = next(item for item in SYSTEM_TEMPLATES if item is template)
    made, created, _ = await service.create(NewSession(template=chosen.id, name="n"), ANN, idempotency_key=None)

    assert created
    assert (made.name, made.config, made.tags) == ("n", chosen.config, chosen.tags)
    assert (await service.get(made.id, ANN)).session == made


async def test_a_session_keeps_what_its_template_was(service: SessionService, templates: TemplateService) -> None:
    mine = await templates.create(
        NewTemplate(name=new_id(), session_name="From it", config=SessionConfig(max_steps=3), tags=["a"]), ANN
    )
    made, _, _ = await service.create(
        NewSession(template=mine.id, config=SessionConfig(max_context_tokens=1_000)), ANN, idempotency_key=None
    )
    await templates.delete(mine.id, ANN)

    kept = (await service.get(made.id, ANN)).session
    assert (kept.name, kept.tags, kept.config.max_steps, kept.config.max_context_tokens) == ("From it", ["a"], 3, 1_000)


async def test_a_template_of_somebody_else_is_as_unknown_as_none(
    service: SessionService, templates: TemplateService
) -> None:
    mine = await templates.create(NewTemplate(name=new_id()), ANN)
    told = []
    for name in (mine.id, new_id(), "' OR 1=1", ""):
        with pytest.raises(InvalidInput) as caught:
            await service.create(NewSession(template=name), MALLORY, idempotency_key=None)
        told.append((caught.value.code, caught.value.errors))
    assert told == [(ErrorCode.VALIDATION_ERROR, ({"field": "template", "message": "unknown template"},))] * 4


async def test_a_repeated_request_gets_the_session_though_its_template_changed(
    service: SessionService, templates: TemplateService
) -> None:
    name, key = new_id(), new_id()
    mine = await templates.create(NewTemplate(name=name, tags=["a"]), ANN)
    body = NewSession(template=mine.id)
    first, _, _ = await service.create(body, ANN, idempotency_key=key)

    again, created, _ = await service.create(body, ANN, idempotency_key=key)
    assert (again.id, created) == (first.id, False)
    with pytest.raises(Conflict):
        await service.create(NewSession(template="general"), ANN, idempotency_key=key)
