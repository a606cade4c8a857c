"""`python -m devtools.notes --port N`: a small HTTP service for notes, as a target of the tour's tool call.

POST /notes stores a JSON note with its Idempotency-Key; GET /notes lists them. In memory, on loopback, at most 1,000.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from devhost.asgi.hosts import is_loopback_name, name_of

_MAX_BODY_BYTES = 64 * 1024
_KEPT = 1_000


class _Board(BaseHTTPRequestHandler):
    notes: ClassVar[deque[dict[str, Any]]] = deque(maxlen=_KEPT)
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        if not self._is_from_a_program():
            self._answer(403, {"error": "only programs on this machine may POST notes"})
            return
        length = int(self.headers.get("content-length") or 0)
        if self.path != "/notes" or not 0 <= length <= _MAX_BODY_BYTES:
            self._answer(404 if self.path != "/notes" else 413, {"error": "POST a small JSON note to /notes"})
            return
        text = self.rfile.read(length).decode("utf-8", "replace")
        try:
            note = json.loads(text)
        except ValueError:
            note = text
        self.notes.append({"note": note, "idempotency_key": self.headers.get("idempotency-key")})
        self._answer(201, {"kept": len(self.notes)})

    def do_GET(self) -> None:
        if not self._names_this_machine():
            self._answer(421, {"error": "call it by the name localhost"})
        elif self.path == "/notes":
            self._answer(200, {"notes": list(self.notes)})
        else:
            self._answer(404, {"error": "GET /notes"})

    def _names_this_machine(self) -> bool:
        name = name_of((self.headers.get("host") or "").encode("latin-1"))
        return name is not None and is_loopback_name(name)

    def _is_from_a_program(self) -> bool:
        """Browsers say with every POST for which page they send it."""
        return self._names_this_machine() and "origin" not in self.headers

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: the host's log already shows the call."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.notes", description="A service for the tour's notes.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ready-file", type=Path, required=True, help="written once it listens")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), _Board)
    server.daemon_threads = True
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not shutdown(): the server would have to look again and again whether it was called.
        signal.signal(number, lambda *_: sys.exit(0))
    options.ready_file.write_text("ready")
    server.serve_forever(poll_interval=3600)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
