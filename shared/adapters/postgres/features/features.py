"""Tags and session templates in PostgreSQL; every statement names the user whose they are.

Implements `TagRepository` and `TemplateRepository`.
"""

from __future__ import annotations

from shared.adapters.postgres.pool import PostgresPool, Row, json
from shared.adapters.postgres.queries import load_queries
from shared.errors import Conflict, ErrorCode
from shared.sessions.features.models import Tag, Template
from shared.sessions.models import SessionConfig
from shared.sessions.structured_output.key_order import kept_in_order

_Q = load_queries("features/features")


class PostgresTags:
    """`TagRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def own(self, user_id: str, *, limit: int) -> list[Tag]:
        rows = await self._pool.fetch_all(_Q["own_tags"], {"user_id": user_id, "limit": limit})
        return [_tag(row) for row in rows]

    async def add(self, tag: Tag, user_id: str, *, limit: int) -> bool:
        values = tag.model_dump(include={"name", "color", "description"})
        parameters = {**values, "user_id": user_id, "now": tag.created_at, "limit": limit}
        if await self._pool.fetch_one(_Q["insert_tag"], parameters) is not None:
            return True
        found = await self._pool.fetch_one(_Q["tag_exists"], {"user_id": user_id, "name": tag.name})
        if found is not None and found["found"]:
            raise Conflict(ErrorCode.CONFLICT, f"You have a tag {tag.name!r} already.")
        return False

    async def delete(self, user_id: str, name: str) -> Tag | None:
        row = await self._pool.fetch_one(_Q["delete_tag"], {"user_id": user_id, "name": name})
        return None if row is None else _tag(row)


class PostgresTemplates:
    """`TemplateRepository` over PostgreSQL."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def own(self, user_id: str, *, limit: int) -> list[Template]:
        rows = await self._pool.fetch_all(_Q["own_templates"], {"user_id": user_id, "limit": limit})
        return [_template(row) for row in rows]

    async def get(self, template_id: str, user_id: str) -> Template | None:
        row = await self._pool.fetch_one(_Q["own_template"], {"template_id": template_id, "user_id": user_id})
        return None if row is None else _template(row)

    async def add(self, template: Template, user_id: str, *, limit: int) -> bool:
        parameters = {
            "id": template.id,
            "user_id": user_id,
            "name": template.name,
            "description": template.description,
            "session_name": template.session_name,
            "agent_id": template.agent_id,
            "config": json(kept_in_order(template.config.model_dump(mode="json", exclude_unset=True))),
            "tags": template.tags,
            "metadata": json(template.metadata),
            "now": template.created_at,
            "limit": limit,
        }
        if await self._pool.fetch_one(_Q["insert_template"], parameters) is not None:
            return True
        found = await self._pool.fetch_one(_Q["template_name_exists"], {"user_id": user_id, "name": template.name})
        if found is not None and found["found"]:
            raise Conflict(ErrorCode.CONFLICT, f"You have a template {template.name!r} already.")
        return False

    async def delete(self, template_id: str, user_id: str) -> Template | None:
        row = await self._pool.fetch_one(_Q["delete_template"], {"template_id": template_id, "user_id": user_id})
        return None if row is None else _template(row)


def _tag(row: Row) -> Tag:
    return Tag(
        name=row["name"],
        system=False,
        color=row["color"],
        description=row["description"],
        created_at=row["created_at"],
    )


def _template(row: Row) -> Template:
    return Template(
        id=row["id"],
        name=row["name"],
        system=False,
        description=row["description"],
        session_name=row["session_name"],
        agent_id=row["agent_id"],
        config=SessionConfig.of_store(row["config"]),
        tags=row["tags"],
        metadata=row["metadata"],
        created_at=row["created_at"],
    )
