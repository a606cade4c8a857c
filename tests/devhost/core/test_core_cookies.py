"""Cookies of classic functions: the worker reads them, and the host writes them anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from devhost.runner import HostOptions, run_host

pytestmark = pytest.mark.usefixtures("forked_workers")

APP = """
import azure.functions as func
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("cookie")
def cookie(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse("x")
    answer.headers.add("Set-Cookie", f"a=1; Path=/; Expires={req.params['expires']}")
    return answer
"""


async def test_the_end_of_a_cookie_is_a_date_or_fails_the_function(
    make_app: Callable[..., Path], tmp_path: Path
) -> None:
    options = HostOptions(make_app(function_app__py=APP), port=0, data_dir=tmp_path / "data")
    async with run_host(options) as host, httpx.AsyncClient(base_url=host.base_url, timeout=30) as client:
        # The day of the week is reckoned anew: it was a Friday.
        good = await client.get("/api/cookie", params={"expires": "Thu, 12 Jan 2018 13:55:08 GMT"})
        assert good.headers["set-cookie"] == "a=1; expires=Fri, 12 Jan 2018 13:55:08 GMT; domain=; path=/"
        assert (await client.get("/api/cookie", params={"expires": "Dummy"})).status_code == 500
