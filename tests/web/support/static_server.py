"""A server of files that does what `staticwebapp.config.json` says, as Static Web Apps would, and refuses what it does
not know of it.
"""

from __future__ import annotations

import contextlib
import json
import mimetypes
import threading
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Site(ThreadingHTTPServer):
    daemon_threads = True
    files: Mapping[str, bytes]
    config: Mapping[str, object]
    types: Mapping[str, str]
    """By the end of a file's name."""

    def headers_of(self, path: str) -> dict[str, str]:
        """The site's own, under those of the first route that fits."""
        headers = dict(self.config["globalHeaders"])  # type: ignore[call-overload]
        for route in self.config["routes"]:  # type: ignore[attr-defined]
            if fnmatchcase(path, route["route"]):
                return headers | route["headers"]
        return headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Site

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body = self.server.files.get("/index.html" if path == "/" else path)
        self.send_response(200 if body is not None else 404)
        for name, value in self.server.headers_of(path).items():
            self.send_header(name, value)
        named = "/index.html" if path == "/" else path
        kind = self.server.types.get(Path(named).suffix) or mimetypes.guess_type(named)[0]
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextlib.contextmanager
def serving(port: int) -> Iterator[_Site]:
    """A server that has no site yet; see `load`."""
    server = _Site(("127.0.0.1", port), _Handler)
    server.files, server.types, server.config = {}, {}, {"globalHeaders": {}, "routes": []}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def load(server: _Site, folder: Path) -> None:
    """Serve what is in a folder from now on."""
    config = json.loads((folder / "staticwebapp.config.json").read_text("utf-8"))
    assert config.keys() == {"routes", "globalHeaders", "mimeTypes"}, "this server knows no more"
    assert all(route.keys() == {"route", "headers"} for route in config["routes"])
    server.config, server.types = config, config["mimeTypes"]
    server.files = {
        f"/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "staticwebapp.config.json"
    }
