"""An image on its way to a model, over the real stores: uploaded, sent along, read back, put into the request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.models.service import ModelService
from shared.adapters.postgres.agents import PostgresAgents
from shared.adapters.postgres.attachments import PostgresAttachments
from shared.ids import new_id
from shared.principal import Principal, Role
from shared.sessions.agents.agent import NewAgent
from shared.sessions.agents.catalog import AgentCatalog
from shared.sessions.events import SessionEventPublisher
from shared.sessions.executor import AgentExecutor
from shared.sessions.files.analyzer import FileAnalyzer
from shared.sessions.files.attachments import AttachmentService
from shared.sessions.files.stored_images import StoredImages
from shared.sessions.llm.registry import ModelApi
from shared.sessions.models import NewMessage, NewSession
from shared.sessions.records.steps import StepStart
from tests.integration.bench import BOTH_APIS, settings_for
from tests.integration.domain import OWNER, Stores, session_service
from tests.unit.files.documents import png

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

ANN = Principal(OWNER, frozenset({Role.USER, Role.ADMIN}))


@pytest.fixture
async def blobs(storage_url: str) -> AsyncIterator[AzureBlobStore]:
    store = AzureBlobStore(connection_string=storage_url, endpoint=None)
    yield store
    await store.aclose()


@pytest.mark.parametrize("api", BOTH_APIS)
@pytest.mark.parametrize("vision", [True, False], ids=["sees", "is told"])
async def test_a_model_gets_the_images_of_a_message_if_its_agent_sees(
    stores: Stores,
    publisher: SessionEventPublisher,
    blobs: AzureBlobStore,
    model_url: str,
    vision: bool,
    api: ModelApi,
) -> None:
    rows, agent_id = PostgresAttachments(stores.pool), new_id()
    catalog = AgentCatalog(PostgresAgents(stores.pool))
    await catalog.put(agent_id, NewAgent(name="n", instructions="Look.", vision=vision), ANN, if_match=None)
    service = session_service(stores, publisher)
    session, _, _ = await service.create(NewSession(agent_id=agent_id), ANN, idempotency_key=None)
    files = AttachmentService(stores.sessions, rows, blobs, FileAnalyzer(), max_bytes=1_000_000)
    with files.spool() as spool:
        spool.write(png(640, 480).getvalue())
        image = (await files.add(session.id, ANN, spool, "chart.png")).id
    body = NewMessage(content="what is it", attachment_ids=[image])
    posted = await service.post_message(session.id, body, ANN, idempotency_key=None)
    start = await stores.begin(posted.result.turn.id)
    assert isinstance(start, StepStart)

    model = ModelService(settings_for(model_url))
    try:
        executor = AgentExecutor(model, images=StoredImages(rows, blobs), api_of=lambda _: api)
        answer = await executor.execute(start, [])
    finally:
        await model.aclose()

    # The offline model counts the parts that are no text.
    assert ("the 1 attachment" in answer.content) is vision
    assert answer.end.finish_reason == "stop"
