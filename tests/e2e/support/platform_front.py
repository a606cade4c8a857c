"""App Service Authentication, as far as a client that sends an Entra token meets it: a front that checks it and tells
the app who calls. The host behind it takes that from `x-dev-user`, which stands for the platform's own headers
(`devhost/asgi/identity.py`)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import jwt
from aiohttp import ClientSession, web
from openai import AsyncOpenAI

_KEY = "the issuer's key of 32 bytes or so"
_AUDIENCE = "api://parley"
_OWN = frozenset({"host", "x-dev-user"})


@dataclass(frozen=True, slots=True)
class Front:
    base_url: str

    def token(
        self,
        user: str,
        *,
        roles: Sequence[str] = (),
        audience: str = _AUDIENCE,
        expires_in_s: int = 600,
        key: str = _KEY,
    ) -> str:
        claims = {"aud": audience, "oid": user, "roles": list(roles), "exp": int(time.time()) + expires_in_s}
        return jwt.encode(claims, key, algorithm="HS256")

    def client(self, token: str) -> AsyncOpenAI:
        """OpenAI's own, with the token as its key."""
        return AsyncOpenAI(base_url=f"{self.base_url}/api/openai/v1", api_key=token, max_retries=0)


@asynccontextmanager
async def platform_front(behind: str) -> AsyncIterator[Front]:
    """In front of a host, on an address of its own."""
    async with ClientSession(auto_decompress=False) as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                scheme, _, token = request.headers.get("Authorization", "").partition(" ")
                claims = jwt.decode(token, _KEY, algorithms=["HS256"], audience=_AUDIENCE)
                user = f"{claims['oid']};{','.join(claims['roles'])}"
            except (jwt.PyJWTError, KeyError):
                return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
            assert scheme == "Bearer"
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
            headers["x-dev-user"] = user
            async with session.request(
                request.method, behind + request.path_qs, headers=headers, data=await request.read()
            ) as found:
                kept = {name: found.headers[name] for name in ("Content-Type",) if name in found.headers}
                response = web.StreamResponse(status=found.status, headers=kept)
                await response.prepare(request)
                async for piece in found.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response

        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield Front(f"http://127.0.0.1:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()
