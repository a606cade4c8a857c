"""`python curl.py [-sN] [-X METHOD] [-H HEADER] [-d BODY] [-F NAME=@FILE] URL`: what the README's tour uses of curl.

For a machine that has none, so that the test of the tour needs no more than the other tests.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import httpx


def main() -> int:
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-s", action="store_true", dest="is_silent")
    parser.add_argument("-N", action="store_true", dest="is_unbuffered")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", action="append", default=[], dest="headers")
    parser.add_argument("-d", dest="body")
    parser.add_argument("-F", action="append", default=[], dest="parts")
    parser.add_argument("url")
    given = parser.parse_args()
    headers = dict(line.split(": ", 1) for line in given.headers)
    if given.body is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    files = {name: Path(file) for name, file in (part.split("=@", 1) for part in given.parts)}
    method = given.method or ("GET" if given.body is None and not files else "POST")
    with httpx.stream(
        method,
        given.url,
        headers=headers,
        content=given.body,
        files={name: (path.name, path.read_bytes()) for name, path in files.items()} or None,
        timeout=None,  # as curl; the test has a limit
        trust_env=False,
    ) as response:
        for piece in response.iter_raw():
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # `curl ... | head`
        sys.stderr.close()
        sys.exit(23)
