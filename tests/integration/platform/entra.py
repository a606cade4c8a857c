"""A managed identity's token endpoint, as App Service has one, and servers over TLS that take its tokens."""

from __future__ import annotations

import contextlib
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from azure.identity.aio import DefaultAzureCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SECRET = "endpoint-secret"


class Identity:
    """A managed identity's token endpoint; `life_s` is how long its tokens last, `user` who they say they are."""

    def __init__(self) -> None:
        self.life_s = 86_400
        self.user: Callable[[], str] = lambda: "app"
        self.asked: list[str] = []
        self.given: list[str] = []
        self.on_give: Callable[[str], None] = lambda _token: None
        self.refuses = False
        self._credentials: list[DefaultAzureCredential] = []

    def made(self) -> DefaultAzureCredential:
        """The credential of one process."""
        return self._credentials[0] if self._credentials else self.fresh()

    def fresh(self) -> DefaultAzureCredential:
        """One that has no token yet: azure-identity keeps a token that will end soon for some seconds more."""
        self._credentials.append(DefaultAzureCredential())
        return self._credentials[-1]

    async def aclose(self) -> None:
        for credential in self._credentials:
            await credential.close()

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("X-IDENTITY-HEADER") != SECRET or self.refuses:
            return web.json_response({"statusCode": 400, "message": "no identity"}, status=400)
        resource = request.query["resource"]
        ends = int(time.time()) + self.life_s
        claims = {"aud": resource, "oid": self.user(), "exp": ends, "jti": uuid.uuid4().hex}
        token = jwt.encode(claims, "k" * 32, algorithm="HS256")
        self.asked.append(resource)
        self.given.append(token)
        self.on_give(token)
        return web.json_response(
            {"access_token": token, "expires_on": str(ends), "resource": resource, "token_type": "Bearer"}
        )


@contextlib.asynccontextmanager
async def serving(handler: Any, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def identity(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Identity]:
    endpoint = Identity()
    async with serving(endpoint.answer) as url:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", SECRET)
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
        yield endpoint
        await endpoint.aclose()


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that is its own authority: where it lies, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, both = folder / "trusted.pem", folder / "server.pem"
    trusted.write_bytes(made.public_bytes(Encoding.PEM))
    both.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(both)
    return trusted, context
