"""HTTP/1 as uvicorn reads it, with the host of a request target that is a whole URL.

`GET http://name/path` names its host twice. uvicorn keeps only the path, so the name would be seen by nobody.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class WholeTargetProtocol(HttpToolsProtocol):
    """Adds the host of the request target to the headers, unless `Host` says the same (RFC 9112, 3.2.2)."""

    def on_headers_complete(self) -> None:
        scheme, found, rest = self.url.partition(b"://")
        if found and b"/" not in scheme:
            end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
            named = (b"host", rest[:end])
            if named not in self.headers:
                self.headers.append(named)
        super().on_headers_complete()
