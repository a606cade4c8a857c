"""The console as a separate site: for Azure Static Web Apps, or any file server that can set headers.

Invariant: the page, headers and policy are those of the app (`triggers/site/console.py`). Only the API's origin, which
is written into the page and the policy, differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from devtools import console

# An origin inside a policy, where a semicolon or a space would begin another directive or source.
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.*-]+(:[0-9]+)?")
_ANY_SIGNALR = "https://*.service.signalr.net"


def write(out: Path, *, api: str, signalr: str = _ANY_SIGNALR, auth: str = "easyauth") -> None:
    """Write the built console to a new folder, with the configuration for Static Web Apps.

    api, signalr: origins. Raises ValueError for other values, and FileExistsError.
    """
    # Imported here: the app's own module has the page's headers, and its import needs the app's packages.
    from triggers.http.headers import HTTPS_ONLY
    from triggers.site.console import (
        ASSET_CACHE,
        COMMON_HEADERS,
        MANIFEST_TYPE,
        PAGE_CACHE,
        console_policy,
        marked,
        signalr_origins,
    )

    for url in (api, signalr):
        if _ORIGIN.fullmatch(url) is None:
            raise ValueError(f"{url} must be an origin: https://name, without a path")
    out.mkdir(parents=True)
    shutil.copytree(console.DIST / "assets", out / "assets", ignore=shutil.ignore_patterns("*.gz"))
    page = (console.DIST / "index.html").read_bytes()
    (out / "index.html").write_bytes(marked(page, api=api, auth=auth))
    headers = {
        **COMMON_HEADERS,
        **HTTPS_ONLY,
        "Cache-Control": PAGE_CACHE,
        "Content-Security-Policy": console_policy(api, *signalr_origins(signalr)),
    }
    # No role is required: the page contains no user data, and the API does not know who signed in to the site.
    config = {
        "routes": [{"route": "/assets/*", "headers": {"Cache-Control": ASSET_CACHE}}],
        "globalHeaders": headers,
        "mimeTypes": {".webmanifest": MANIFEST_TYPE},
    }
    (out / "staticwebapp.config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m devtools.static_site", description="Write the console as a separate site."
    )
    parser.add_argument("out", type=Path, help="folder to write, which must not exist yet")
    parser.add_argument("--api", required=True, help="origin of the API: https://func-....azurewebsites.net")
    parser.add_argument(
        "--signalr", default=_ANY_SIGNALR, help="origin of the SignalR service (default: any of Azure's)"
    )
    parser.add_argument(
        "--auth", choices=("easyauth", "dev"), default="easyauth", help="how callers sign in to the API"
    )
    given = parser.parse_args(arguments)
    try:
        asyncio.run(console.build(lambda name, text: print(f"{name}: {text}", file=sys.stderr)))
        write(given.out, api=given.api.rstrip("/"), signalr=given.signalr.rstrip("/"), auth=given.auth)
    except (console.ConsoleNotBuilt, ValueError, FileExistsError) as error:
        print(f"dev: {error}", file=sys.stderr)
        return 1
    print(f"{given.out}: deploy it as it is, and allow its origin (consoleOrigins, or Host.CORS on a laptop)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
