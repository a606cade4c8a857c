"""What is told of npm's output when it could not install."""

from __future__ import annotations

import pytest

from devhost.servers.node import npm_reason


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (
            "npm error code ECONNREFUSED\nnpm error syscall connect\nnpm error errno ECONNREFUSED\n"
            "npm error FetchError: request to http://127.0.0.1:9/left-pad failed, reason:\n",
            "the npm registry cannot be reached (ECONNREFUSED)",
        ),
        ("npm error code ENOTFOUND\nnpm error errno ENOTFOUND\n", "the npm registry cannot be reached (ENOTFOUND)"),
        (
            "npm error code EUSAGE\nnpm error\nnpm error `npm ci` can only install packages when in sync\n",
            "npm error `npm ci` can only install packages when in sync",
        ),
        ("npm error code E401\n", "npm error code E401"),
        ("killed\n", "killed"),
        ("", "npm gave no reason"),
    ],
)
def test_the_line_that_tells_most_is_told(output: str, told: str) -> None:
    assert npm_reason(output) == told
