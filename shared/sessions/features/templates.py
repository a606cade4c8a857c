"""TemplateService: session templates, and filling a new session from one.

Invariant: the request's fields override the template's, field by field. Templates are copied, so changing or deleting
one never affects a session made from it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

import orjson

from shared.errors import Conflict, ErrorCode, InvalidInput, NotFound
from shared.ids import new_id
from shared.principal import Principal
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.features.models import MAX_SESSION_TAGS, NewTemplate, Template
from shared.sessions.features.presets import SYSTEM_TEMPLATES
from shared.sessions.models import NewSession, SessionConfig

MAX_OWN_TEMPLATES = 100
MAX_METADATA_BYTES = 16 * 1024
"""The same limit as for a session."""

_SYSTEM = {template.id: template for template in SYSTEM_TEMPLATES}


class TemplateRepository(Protocol):
    async def own(self, user_id: str, *, limit: int) -> list[Template]:
        """Oldest first."""
        ...

    async def get(self, template_id: str, user_id: str) -> Template | None: ...

    async def add(self, template: Template, user_id: str, *, limit: int) -> bool:
        """False when the user has `limit` templates already. Raises Conflict when the name is taken."""
        ...

    async def delete(self, template_id: str, user_id: str) -> Template | None:
        """Returns the deleted template; None when it does not exist."""
        ...


class TemplateService:
    """The built-in templates and the caller's own; users cannot see each other's."""

    def __init__(self, templates: TemplateRepository, agents: AgentCatalog) -> None:
        self._templates = templates
        self._agents = agents

    async def list_for(self, principal: Principal) -> list[Template]:
        """The built-in ones, then the caller's own, oldest first."""
        return [*SYSTEM_TEMPLATES, *await self._templates.own(principal.user_id, limit=MAX_OWN_TEMPLATES)]

    async def get(self, template_id: str, principal: Principal) -> Template:
        """Raises NotFound."""
        found = await self._find(template_id, principal)
        if found is None:
            raise _no_such_template()
        return found

    async def create(self, body: NewTemplate, principal: Principal) -> Template:
        """Raises Conflict for a name the caller uses already, InvalidInput."""
        await self._agents.check(body.agent_id)
        if len(orjson.dumps(body.metadata)) > MAX_METADATA_BYTES:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                f"metadata can hold at most {MAX_METADATA_BYTES} bytes of JSON.",
                errors=[{"field": "metadata", "message": "too large"}],
            )
        template = Template(
            id=new_id(),
            name=body.name,
            system=False,
            description=body.description,
            session_name=body.session_name,
            agent_id=body.agent_id,
            config=body.config,
            tags=list(dict.fromkeys(body.tags)),
            metadata=body.metadata,
            created_at=datetime.now(UTC),
        )
        if not await self._templates.add(template, principal.user_id, limit=MAX_OWN_TEMPLATES):
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR, f"You can have at most {MAX_OWN_TEMPLATES} templates; delete one first."
            )
        return template

    async def delete(self, template_id: str, principal: Principal) -> Template:
        """Delete one of the caller's own templates; returns it. Raises NotFound, Conflict for a built-in one."""
        if template_id in _SYSTEM:
            raise Conflict(ErrorCode.CONFLICT, "This template is built in and cannot be deleted.")
        deleted = await self._templates.delete(template_id, principal.user_id)
        if deleted is None:
            raise _no_such_template()
        return deleted

    async def fill(self, body: NewSession, principal: Principal) -> NewSession:
        """The new session with its template's values for the fields that the request leaves out.

        Raises InvalidInput for an unknown template.
        """
        if body.template is None:
            return body
        template = await self._find(body.template, principal)
        if template is None:
            raise InvalidInput(
                ErrorCode.VALIDATION_ERROR,
                f"There is no template {body.template!r}.",
                errors=[{"field": "template", "message": "unknown template"}],
            )
        return filled(body, template)

    async def _find(self, template_id: str, principal: Principal) -> Template | None:
        return _SYSTEM.get(template_id) or await self._templates.get(template_id, principal.user_id)


def filled(body: NewSession, template: Template) -> NewSession:
    """`body` merged over `template`: fields and settings that were sent win, null included; tags and metadata merge."""
    sent = body.model_fields_set
    config = template.config.model_dump(exclude_unset=True) | body.config.model_dump(exclude_unset=True)
    tags = list(dict.fromkeys([*template.tags, *body.tags]))
    if len(tags) > MAX_SESSION_TAGS:
        raise InvalidInput(
            ErrorCode.VALIDATION_ERROR,
            f"A session can have at most {MAX_SESSION_TAGS} tags, its template's included.",
            errors=[{"field": "tags", "message": "too many, together with the template's"}],
        )
    return body.model_copy(
        update={
            "name": body.name if "name" in sent else template.session_name,
            "agent_id": body.agent_id if "agent_id" in sent else template.agent_id,
            "config": SessionConfig.of_store(config),
            "tags": tags,
            "metadata": template.metadata | body.metadata,
        }
    )


def _no_such_template() -> NotFound:
    return NotFound(ErrorCode.SESSION_NOT_FOUND, "No such template.")
