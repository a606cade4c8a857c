from __future__ import annotations

import uuid

import httpx
import pytest

from devhost.testing import HostProcess


def test_request_reaches_the_function_as_azure_sends_it(get: httpx.Client) -> None:
    answer = get.post(
        "/api/echo/B%20ob?a=1&a=2&empty=&b=%C3%A9", content="hej", headers=[("x-two", "1"), ("x-two", "2")]
    )

    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    seen = answer.json()
    assert seen["method"] == "POST"
    assert seen["url"] == str(get.base_url.join("/api/echo/B%20ob?a=1&a=2&empty=&b=%C3%A9"))
    assert seen["params"] == {"a": "1,2", "b": "é"}
    assert seen["route"] == {"name": "B ob"}
    assert seen["body"] == "hej"
    assert seen["headers"]["x-two"] == "1,2"


def test_optional_route_value_is_absent_when_not_given(get: httpx.Client) -> None:
    assert get.get("/api/echo").json()["route"] == {}
    assert get.get("/api/echo/").json()["route"] == {}


@pytest.mark.parametrize(
    ("path", "status", "content_type", "body"),
    [
        ("plain", 200, "text/plain; charset=utf-8", "just text"),
        ("json_text", 200, "text/plain; charset=utf-8", '{"a": [1, 2]}'),
        ("shaped_text", 418, "text/plain; charset=utf-8", "short and stout"),
        ("empty", 200, "text/plain; charset=utf-8", ""),
        ("unbound", 204, None, ""),
        ("boom", 500, None, ""),
        ("wrong_type", 500, None, ""),
        ("wrong_status", 200, "text/plain; charset=utf-8", "x"),
        ("named_output", 202, "text/plain; charset=utf-8", "under its own name"),
        ("no_output", 204, None, ""),
        ("nothing", 500, None, ""),
        ("switched_off", 404, None, ""),
        ("no_such_function", 404, None, ""),
    ],
)
def test_answer_by_what_the_function_returns(
    get: httpx.Client, path: str, status: int, content_type: str | None, body: str
) -> None:
    answer = get.get(f"/api/{path}")

    assert (answer.status_code, answer.headers.get("content-type"), answer.text) == (status, content_type, body)


def test_two_cookies_are_two_headers(get: httpx.Client) -> None:
    cookies = get.get("/api/cookies").headers.get_list("set-cookie")

    assert cookies == ["a=1; domain=; path=/; httponly", "b=2; max-age=60; domain=; path=; samesite=lax"]


def test_wrong_method_is_404_with_empty_body(get: httpx.Client) -> None:
    answer = get.get("/api/only_post")

    assert (answer.status_code, answer.content) == (404, b"")
    assert get.post("/api/only_post", content=b"x" * 5).text == "5"


def test_head_and_options_reach_a_function_that_lists_them(get: httpx.Client) -> None:
    head, options = get.head("/api/only_get"), get.options("/api/only_get")

    assert (head.status_code, head.headers["x-method"], head.content) == (200, "HEAD", b"")
    assert options.text == "OPTIONS it is"
    assert get.head("/api/only_post").status_code == 404


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("items/5", "number 5"),
        ("items/latest", "latest"),
        ("ITEMS/Latest/", "latest"),
        ("items/a/b", "rest a/b"),
        ("items/x5", "rest x5"),
        ("items", "rest None"),
    ],
)
def test_most_specific_route_answers(get: httpx.Client, path: str, answer: str) -> None:
    assert get.get(f"/api/{path}").text == answer


def test_failure_is_told_in_the_log_with_the_app_s_own_traceback(get: httpx.Client, classic: HostProcess) -> None:
    get.get("/api/boom", headers={"x-correlation-id": "look-for-me"})

    story = classic.log().partition("(look-for-me): ")[2]
    assert story.startswith("LookupError: no such thing\nTraceback")
    assert "in boom" in story.splitlines()[2], "the first frame is the app's"


def test_each_invocation_logs_one_line_with_its_correlation_id(get: httpx.Client, classic: HostProcess) -> None:
    get.get("/api/plain", headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    get.get("/api/plain", headers={"x-correlation-id": "bad id\twith blanks"})

    assert classic.logs("ms (0af7651916cd43dd8448eb211c80319c)")
    lines = [line for line in classic.log().splitlines() if "plain ok in" in line]
    assert not any("blanks" in line for line in lines), "an id that could forge log lines is not taken over"


def test_app_s_own_log_lines_name_the_function(get: httpx.Client, classic: HostProcess) -> None:
    get.get("/api/nothing")

    assert classic.logs("a line of the app's own")
    assert any("[nothing " in line and line.endswith("a line of the app's own") for line in classic.log().splitlines())


def test_context_carries_invocation_and_trace(get: httpx.Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    seen = get.get("/api/invocation", headers={"traceparent": trace}).json()

    assert seen["name"] == "invocation"
    assert seen["traceparent"] == trace
    assert str(uuid.UUID(seen["id"])) == seen["id"]


def test_app_sees_settings_and_what_core_tools_sets(get: httpx.Client, classic: HostProcess) -> None:
    seen = get.get("/api/setting?names=GREETING,WEBSITE_HOSTNAME,AZURE_FUNCTIONS_ENVIRONMENT").json()

    assert seen == {
        "GREETING": "hello",
        "WEBSITE_HOSTNAME": f"localhost:{classic.port}",
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
    }


def test_custom_headers_of_host_json_are_added(get: httpx.Client) -> None:
    assert get.get("/api/plain").headers["x-content-type-options"] == "nosniff"


def test_principal_headers_pass_unchanged_without_the_emulator(get: httpx.Client) -> None:
    seen = get.get("/api/echo", headers={"x-ms-client-principal-name": "eve"}).json()

    assert seen["headers"]["x-ms-client-principal-name"] == "eve"


def test_landing_page_says_the_app_is_up(get: httpx.Client) -> None:
    answer = get.get("/")

    assert answer.status_code == 200
    assert "up and running" in answer.text


class TestCors:
    def test_preflight_is_answered_before_the_function(self, get: httpx.Client) -> None:
        answer = get.options(
            "/api/only_post",
            headers={
                "origin": "http://app.example",
                "access-control-request-method": "POST",
                "access-control-request-headers": "x-anything",
            },
        )

        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "http://app.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["access-control-allow-headers"] == "x-anything"

    def test_answer_carries_the_origin(self, get: httpx.Client) -> None:
        answer = get.get("/api/plain", headers={"origin": "http://other.example"})

        assert answer.headers["access-control-allow-origin"] == "http://other.example"
        assert answer.headers["access-control-allow-credentials"] == "true"

    def test_strange_origin_gets_nothing(self, get: httpx.Client) -> None:
        answer = get.get("/api/plain", headers={"origin": "http://evil.example"})

        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


class TestAdmin:
    @pytest.fixture(autouse=True)
    def _key(self, get: httpx.Client, classic: HostProcess) -> None:
        get.headers.update(classic.admin_headers)

    def test_status_and_ping(self, get: httpx.Client) -> None:
        status = get.get("/admin/host/status")
        assert status.json()["state"] == "Running"
        assert "cache-control" not in status.headers
        assert get.post("/admin/host/ping").status_code == 200

    def test_functions_are_listed_with_their_bindings(self, get: httpx.Client) -> None:
        listed = {item["name"]: item for item in get.get("/admin/functions").json()}

        assert listed["echo"]["invoke_url_template"] == f"{str(get.base_url).rstrip('/')}/api/echo/{{name?}}"
        assert listed["switched_off"]["isDisabled"] is True
        assert listed["nightly"]["config"]["bindings"][0]["schedule"] == "0 0 3 * * *", "%NIGHTLY% is replaced"
        assert get.get("/admin/functions/nightly").json() == listed["nightly"]
        assert get.get("/admin/functions/nightly/status").status_code == 200

    def test_function_runs_by_hand_in_the_background(self, get: httpx.Client, classic: HostProcess) -> None:
        assert get.post("/admin/functions/nightly", json={"input": ""}).status_code == 202

        for _ in range(1000):
            if "nightly ran, past due: False" in classic.log():
                break
            get.get("/admin/host/ping")
        assert classic.logs("nightly ran, past due: False")

    @pytest.mark.parametrize(
        ("path", "content", "status"),
        [
            ("no_such", b"{}", 404),
            ("switched_off", b"{}", 202),
            ("nightly", b"not json", 400),
            ("nightly", b"[]", 400),
            ("plain", b"{}", 202),
        ],
    )
    def test_what_cannot_be_run_by_hand(
        self, get: httpx.Client, classic: HostProcess, path: str, content: bytes, status: int
    ) -> None:
        json_type = {"content-type": "application/json"}
        assert get.post(f"/admin/functions/{path}", content=content, headers=json_type).status_code == status
        assert status != 202 or f"{path} is not run by hand" in classic.log()
