"""`./dev up` lets its host be called by the name in PUBLIC_BASE_URL, and by what the user lists."""

from __future__ import annotations

import pytest

from devhost.asgi.hosts import HOSTS_SETTING, AllowedHosts
from devtools.local.stack import allowed_hosts


@pytest.mark.parametrize(
    ("listed", "public", "value"),
    [
        ("", "", None),
        ("", "http://localhost:7071", None),
        ("", "http://[::1]:7071/x", None),
        ("", "https://Chat.Example:8443/base", "chat.example"),
        ("a.example, b.example", "https://chat.example", "a.example,b.example,chat.example"),
        ("chat.example", "https://user@chat.example", "chat.example"),
        ("a.example", "nonsense", "a.example"),
        ("", "http://[", None),
        ("", "https://čokoláda.example", None),
    ],
)
def test_the_public_name_is_among_the_hosts_names(listed: str, public: str, value: str | None) -> None:
    found = allowed_hosts(listed, public)
    assert found == ({} if value is None else {HOSTS_SETTING: value})
    AllowedHosts.parse(value or "")
