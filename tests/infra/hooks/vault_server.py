"""A vault over TLS on the loopback, by https://learn.microsoft.com/rest/api/keyvault/secrets (7.4)."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SENTENCES = {
    "SecretNotFound": (404, "A secret with (name/id) {name} was not found in this key vault."),
    "ForbiddenByRbac": (
        403,
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "
        "definitions were changed recently, please observe propagation time.\r\nCaller: appid=1;oid=2",
    ),
    "ForbiddenByConnection": (
        403,
        "Public network access is disabled and request is not from a trusted service nor via an approved private link.",
    ),
    "ObjectIsDeletedButRecoverable": (
        409,
        "Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, "
        "the secret can only be recovered or purged.",
    ),
    "ObjectIsBeingRecovered": (409, "Secret {name} is currently being recovered."),
    "Throttled": (429, "Request was not processed because too many requests were received."),
    "Unauthorized": (401, "AKV10000: Request is missing a Bearer or PoP token."),
    "BadParameter": (400, "api-version must be specified"),
}
OUTER = {"ForbiddenByRbac": "Forbidden", "ForbiddenByConnection": "Forbidden"} | dict.fromkeys(
    ("ObjectIsDeletedButRecoverable", "ObjectIsBeingRecovered"), "Conflict"
)


class VaultServer:
    """secrets, deleted: values by name, oldest first. refuse: codes for the next requests, one each."""

    def __init__(self, certificate: Path) -> None:
        """certificate: with its key, in one file."""
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        self.secrets: dict[str, list[str]] = {}
        self.deleted: dict[str, list[str]] = {}
        self.refuse: list[str] = []
        self.asked: list[str] = []
        self.token = "a-vault-token"
        self.recovers_after = 1
        self.moved_to = ""
        """An address to send every caller to, as no vault does."""
        vault = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                vault.answer(self)

            do_PUT = do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        self.asked.append(f"{request.command} {parts.path}")
        told: dict[str, Any] = {}
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            code = "Unauthorized"
        elif parse_qs(parts.query).get("api-version") != ["7.4"]:
            code = "BadParameter"
        else:
            code, told = self._told(request.command, parts.path.strip("/").split("/"), body)
        status, sentence = SENTENCES[code] if code else (302 if self.moved_to else 200, "")
        if code:
            error: dict[str, Any] = {
                "code": OUTER.get(code, code),
                "message": sentence.format(name=parts.path.split("/")[2]),
            }
            if code in OUTER:
                error["innererror"] = {"code": code}
            told = {"error": error}
        data = json.dumps(told).encode()
        request.send_response(status)
        if status == 401:
            request.send_header(
                "WWW-Authenticate", 'Bearer authorization="https://login.example", resource="https://vault.azure.net"'
            )
        if self.moved_to:
            request.send_header("Location", self.moved_to)
        request.send_header("Content-Type", "application/json; charset=utf-8")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _told(self, method: str, path: list[str], body: Any) -> tuple[str, dict[str, Any]]:
        """An error's code, or "" and the answer."""
        if self.refuse:
            return self.refuse.pop(0), {}
        match method, path:
            case "GET", ["secrets", name]:
                if name not in self.secrets:
                    return "SecretNotFound", {}
            case "PUT", ["secrets", name]:
                if name in self.deleted:
                    return "ObjectIsDeletedButRecoverable", {}
                self.secrets.setdefault(name, []).append(body["value"])
            case "POST", ["deletedsecrets", name, "recover"]:
                self.secrets[name] = self.deleted.pop(name)
                # Recovering takes a moment, in which the secret is not found.
                self.refuse += ["SecretNotFound"] * self.recovers_after
                return "", {"id": f"{self.url}secrets/{name}/{uuid.uuid4().hex}"}
            case _:
                return "BadParameter", {}
        return "", {"value": self.secrets[name][-1], "id": f"{self.url}secrets/{name}/{uuid.uuid4().hex}"}
