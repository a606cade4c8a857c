"""A proxy of the machine is for elsewhere: the servers beside the app are reached directly."""

from __future__ import annotations

import pytest

from devtools.local.stack import beside_the_proxy


@pytest.mark.parametrize(
    "given", [{}, {"NO_PROXY": "corp.example"}, {"http_proxy": "http://proxy.example:3128", "no_proxy": "*"}]
)
def test_without_a_proxy_in_effect_nothing_is_set(given: dict[str, str]) -> None:
    assert beside_the_proxy(given) == {}


@pytest.mark.parametrize(
    ("given", "direct"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "corp.example, localhost"}, "corp.example,localhost,127.0.0.1,::1"),
        ({"no_proxy": "a.example", "NO_PROXY": "b.example"}, "a.example,localhost,127.0.0.1,::1"),
    ],
)
def test_with_a_proxy_this_machine_is_left_out_of_it(given: dict[str, str], direct: str) -> None:
    set_now = beside_the_proxy(given | {"https_proxy": "http://proxy.example:3128"})
    assert set_now == {"no_proxy": direct, "NO_PROXY": direct}
