from __future__ import annotations

from ipaddress import ip_address

import pytest
from yarl import URL

from shared.adapters.http.guard import AllowList, is_public
from shared.errors import ConfigError, ToolRefused


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::1111", "2a00:1450::1"])
def test_ordinary_addresses_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",  # carrier-grade NAT
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "198.18.0.1",
        "203.0.113.7",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",  # IPv4-compatible
        "::ffff:127.0.0.1",  # IPv4-mapped
        "::ffff:8.8.8.8",
        "::ffff:0:127.0.0.1",  # IPv4-translated
        "64:ff9b::7f00:1",  # NAT64
        "64:ff9b::808:808",
        "64:ff9b:1::1",  # local NAT64
        "2002:7f00:1::",  # 6to4
        "2002:808:808::1",
        "2001::1",  # Teredo
        "2001:db8::1",
        "3fff::1",
        "2a00:1450::5efe:10.0.0.1",  # ISATAP
        "2a00:1450::200:5efe:10.0.0.1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "2a00:1450::1%eth0",
        "fec0::1",  # old site-local
        "ff02::1",
        "100::1",  # discard
        "4000::1",  # not allocated
    ],
)
def test_everything_else_is_not(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize(
    ("entry", "url", "is_open"),
    [
        ("example.com", "https://example.com/x", True),
        ("example.com", "http://EXAMPLE.com./x", True),
        ("example.com", "http://example.com:8080/", False),
        ("example.com:8080", "http://example.com:8080/", True),
        ("example.com:8080", "http://example.com/", False),
        ("example.com:443", "https://example.com/", True),
        ("example.com", "http://sub.example.com/", False),
        ("example.com", "http://example.com.evil.net/", False),
        ("example.com", "http://notexample.com/", False),
        ("bücher.example", "http://xn--bcher-kva.example/", True),
        ("127.0.0.1:9999", "http://127.0.0.1:9999/", True),
        ("127.0.0.1:9999", "http://127.0.0.1:9998/", False),
        ("127.0.0.1:9999", "http://localhost:9999/", False),
        ("127.0.0.1", "http://2130706433/", False),
        ("127.0.0.1", "http://127.1/", False),
        ("127.0.0.1", "http://0x7f.0.0.1/", False),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/", False),
        ("[::1]:80", "http://[0:0:0:0:0:0:0:1]/", True),
        ("::1", "http://[::1]/", True),
    ],
)
def test_an_entry_opens_exactly_its_host_and_port(entry: str, url: str, is_open: bool) -> None:
    allow = AllowList([entry], setting="TOOLS_HTTP_ALLOW")
    if is_open:
        allow.check_url(URL(url))
    else:
        with pytest.raises(ToolRefused, match="allow-list"):
            allow.check_url(URL(url))


def test_an_empty_list_opens_nothing() -> None:
    with pytest.raises(ToolRefused):
        AllowList([], setting="TOOLS_HTTP_ALLOW").check_url(URL("https://example.com/"))


@pytest.mark.parametrize(
    ("entry", "address", "is_open"),
    [
        ("example.com", "93.184.215.14", True),
        ("example.com", "127.0.0.1", False),
        ("example.com", "10.0.0.5", False),
        ("intranet", "192.168.1.5", False),
        ("localhost", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("localhost", "10.0.0.5", False),
        ("app.localhost", "127.0.0.1", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
    ],
)
def test_private_addresses_are_reached_only_by_their_own_literal(entry: str, address: str, is_open: bool) -> None:
    allow, url = AllowList([entry], setting="TOOLS_HTTP_ALLOW"), URL(f"http://{entry}/")
    if is_open:
        allow.check_address(url, ip_address(address))
    else:
        with pytest.raises(ToolRefused, match="not public"):
            allow.check_address(url, ip_address(address))


@pytest.mark.parametrize(
    "entry",
    [
        "http://example.com",
        "example.com/path",
        "user@example.com",
        "*.example.com",
        "*",
        "exa mple.com",
        "example.com:",
        "example.com:0",
        "example.com:99999",
        "example.com:http",
        "127.1",
        "2130706433",
        "0x7f.1",
        "",
        ":80",
        "[::1",
        "169.254.169.254",
        "168.63.129.16:80",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::169.254.169.254]",
    ],
)
def test_a_wrong_entry_stops_the_start_naming_the_setting(entry: str) -> None:
    with pytest.raises(ConfigError, match="TOOLS_HTTP_ALLOW"):
        AllowList([entry], setting="TOOLS_HTTP_ALLOW")
