"""TLS in front of the tests' PostgreSQL, whose binaries have none: as a client sees a flexible server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

_TLS, _GSS = (struct.pack("!ii", 8, code) for code in (80877103, 80877104))
"""https://www.postgresql.org/docs/current/protocol-message-formats.html: SSLRequest, GSSENCRequest."""


@contextlib.contextmanager
def tls_in_front(address: tuple[str, int], certificate: Path) -> Iterator[int]:
    """The port of the proxy. A client that asks for no TLS is cut off. certificate: with its key, in one file."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def accept() -> None:
        while not ended.is_set():
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, address, tls), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1]
    ended.set()
    with contextlib.suppress(OSError):
        socket.create_connection(listener.getsockname()).close()
    thread.join()
    listener.close()


def _serve(client: socket.socket, address: tuple[str, int], tls: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError), client:
        while (asked := client.recv(8, socket.MSG_WAITALL)) == _GSS:
            client.sendall(b"N")
        if asked != _TLS:
            return
        client.sendall(b"S")
        with tls.wrap_socket(client, server_side=True) as safe, socket.create_connection(address) as server:
            back = threading.Thread(target=_copy, args=(server, safe), daemon=True)
            back.start()
            _copy(safe, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
