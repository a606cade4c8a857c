"""While a webhook's secret changes, receivers with the old one and with the new one both verify."""

from __future__ import annotations

import base64

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from shared.adapters.http.webhook import ApprovalNotifier
from shared.sessions.records.approval_policy import NoticeKind
from shared.signing import ApprovalLinks
from tests.integration.domain import Stores, call

pytestmark = pytest.mark.integration

_OLD, _NEW, _OTHER = ("whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in range(3))


async def test_a_delivery_carries_a_signature_per_secret(stores: Stores) -> None:
    proposal = call("http_request", {"method": "POST", "url": "http://example.test/"}, needs_approval=True)
    await stores.proposed(proposal)
    record = await stores.request_approval(proposal)
    got: list[tuple[bytes, dict[str, str]]] = []

    async def receive(request: web.Request) -> web.Response:
        got.append((await request.read(), dict(request.headers)))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    links = ApprovalLinks("s" * 32, "http://localhost")

    notifier = ApprovalNotifier(stores.approvals, links, url=url, secret=f"{_NEW},{_OLD}")
    await notifier.notify(record.id, NoticeKind.REQUESTED, 0)
    await runner.cleanup()
    assert await stores.value(b"SELECT notices_settled FROM approvals WHERE id = %(id)s", id=record.id) == ["requested"]

    ((body, headers),) = got
    for secret in (_OLD, _NEW):
        assert Webhook(secret).verify(body, headers)["data"]["id"] == record.id
    with pytest.raises(WebhookVerificationError):
        Webhook(_OTHER).verify(body, headers)
