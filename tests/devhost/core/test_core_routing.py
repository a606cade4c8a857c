from __future__ import annotations

import pytest

from devhost.extensions.contract import HostError
from devhost.http.routing import Route, RouteTable, overlaps, parse_template, request_path


def table(*templates: str) -> RouteTable[str]:
    return RouteTable(Route(parse_template(text, "f"), None, text) for text in templates)


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("", "/", {}),
        ("a/b", "/A/b/", {}),
        ("a/b", "/a", None),
        ("a/{x}", "/a/Žofie", {"x": "Žofie"}),
        ("a/{x}", "/a", None),
        ("a/{x}", "/a/b/c", None),
        ("a/{x?}", "/a", {}),
        ("a/{x=seven}", "/a", {"x": "seven"}),
        ("a/{x=seven}", "/a/8", {"x": "8"}),
        ("a/{*rest}", "/a/b/c", {"rest": "b/c"}),
        ("a/{*rest}", "/a", {}),
        ("a/{**rest}", "/a/b/c", {"rest": "b/c"}),
        ("{name}.{ext}", "/one.two.txt", {"name": "one.two", "ext": "txt"}),
        ("v{major}-{minor}/x", "/v1-2/x", {"major": "1", "minor": "2"}),
        ("a/{x?}/", "/a/b", {"x": "b"}),
        ("a.b", "/aXb", None),
        ("{x:int?}", "/5", {"x": "5"}),
        ("{x:int?}", "/q", None),
        ("{x:int=5}", "/", {"x": "5"}),
    ],
)
def test_template_matches(template: str, path: str, values: dict[str, str] | None) -> None:
    found = table(template).match("GET", path)

    assert (None if found is None else found[1]) == values


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        ("int", ["0", "-5", "2147483647"], ["2147483648", "1.5", "x", "1_0"]),
        ("long", ["9223372036854775807"], ["9223372036854775808", ""]),
        (
            "guid",
            ["0f8fad5b-d9cb-469f-a165-70867728950e", "{0f8fad5bd9cb469fa16570867728950e}"],
            ["0f8fad5b", "g" * 32],
        ),
        ("alpha", ["abcXYZ"], ["ab1", "é"]),
        ("bool", ["true", "FALSE"], ["1", "yes"]),
        ("datetime", ["2026-11-22", "2026-11-22T10:00:00Z", "11-22-2026"], ["tomorrow", "20261122x"]),
        ("decimal", ["1.5", "-1,000.25"], ["1e5", "x", "."]),
        ("double", ["1.5e3", "-2"], ["x", "e"]),
        ("float", ["0.5"], ["half"]),
        ("length(3)", ["abc"], ["ab", "abcd"]),
        ("length(2,3)", ["ab", "abc"], ["a", "abcd"]),
        ("minlength(2)", ["ab"], ["a"]),
        ("maxlength(2)", ["ab"], ["abc"]),
        ("min(5)", ["5", "6"], ["4", "x"]),
        ("max(5)", ["5", "-6"], ["6"]),
        ("range(1,3)", ["1", "3"], ["0", "4"]),
        (r"regex(^\d{{3}}-[a-z/]+$)", ["123-ab", "123-AB"], ["12-ab"]),
        ("int:range(1,10)", ["7"], ["11", "x"]),
        ("required", ["x"], []),
    ],
)
def test_a_constraint_tells_what_its_segment_takes(constraint: str, good: list[str], bad: list[str]) -> None:
    routes = table(f"{{value:{constraint}}}")

    assert [text for text in good if routes.match("GET", f"/{text}") is None] == []
    assert [text for text in bad if routes.match("GET", f"/{text}") is not None] == []


def test_the_first_template_that_fits_wins_however_specific_the_others_are() -> None:
    templates = ["{*all}", "items/{id}", "items/latest"]

    for order, winner in ((templates, "{*all}"), (templates[1:], "items/{id}"), (templates[::-1], "items/latest")):
        found = table(*order).match("GET", "/items/latest")
        assert found is not None
        assert found[0] == winner


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("a/b", "a/b", True),
        ("a/b", "A/c", False),
        ("a/{x}", "a/b", True),
        ("a/{x:int}", "a/b", False),
        ("a/{x:int}", "a/7", True),
        ("a/{x:int}", "a/{y:alpha}", True),
        ("a/{x}", "a/b/c", False),
        ("a/{x?}", "a", True),
        ("a/{x=5}", "a", True),
        ("a/{*rest}", "a/b/c", True),
        ("a/{*rest}", "a", True),
        ("a/{*rest}", "b/{*rest}", False),
        ("{a}-{b}", "x-y", True),
        ("{*all}", "", True),
    ],
)
def test_routes_that_some_path_fits_both_of_overlap(one: str, other: str, meet: bool) -> None:
    first, second = (Route(parse_template(text, "f"), None, text) for text in (one, other))
    assert (overlaps(first, second), overlaps(second, first)) == (meet, meet)


def test_routes_without_a_method_in_common_do_not_overlap() -> None:
    template = parse_template("a", "f")
    get, post, any_method = (Route(template, methods, 0) for methods in (frozenset({"GET"}), frozenset({"POST"}), None))
    assert (overlaps(get, post), overlaps(get, any_method)) == (False, True)


def test_next_template_is_tried_when_the_method_differs() -> None:
    routes = RouteTable(
        [
            Route(parse_template("a/b", "f"), frozenset({"POST"}), "post"),
            Route(parse_template("a/{x}", "f"), None, "any"),
        ]
    )

    assert routes.match("POST", "a/b") == ("post", {})
    assert routes.match("GET", "a/b") == ("any", {"x": "b"})


def test_encoded_slash_stays_in_its_segment() -> None:
    path = request_path("/a/b/c", b"/a/b%2Fc")

    assert table("a/{x}").match("GET", path) == ("a/{x}", {"x": "b%2Fc"})
    assert request_path("/a/b/c", b"/a/b%2fc") == "/a/b%2fc"
    assert request_path("/a b/ž", b"/a%20b/%C5%BE") == "/a b/ž"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/x/../ping", "/ping"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("/../../a", "/a"),
        ("/a/...", "/a/..."),
        ("/a/.", "/a/"),
    ],
)
def test_dots_are_taken_out_before_routing(given: str, path: str) -> None:
    assert request_path(given, given.encode()) == path


@pytest.mark.parametrize(
    "template",
    ["{x", "x}", "{}", "a//b", "{x}/{x}", "{*rest}/b", "{x}{y}", "a{x?}", "{x:shape}", "{x:length(a)}", "{x:regex([)}"],
)
def test_template_that_cannot_be_read_is_refused_by_function_name(template: str) -> None:
    with pytest.raises(HostError, match="function 'f'"):
        parse_template(template, "function 'f'")
