"""Small pure rules: retries, cursors, principals, errors, state tables."""

from __future__ import annotations

import base64
import pickle
import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    HTTP_STATUS,
    AppError,
    Conflict,
    ErrorCode,
    InvalidInput,
    InvalidState,
    NotAuthenticated,
    Transient,
)
from shared.ids import is_valid_id, new_id
from shared.principal import AuthMode, Principal, Role, principal_of
from shared.sessions.models import SessionStatus
from shared.sessions.records.pages import decode_cursor, encode_cursor
from shared.sessions.service import ALLOWED_FROM, RESUME_FROM
from shared.sessions.turns.retry import backoff_s


class TestRetry:
    @pytest.mark.parametrize(("tries", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (500, 60)])
    def test_waits_double_up_to_a_minute(self, tries: int, seconds: float) -> None:
        assert backoff_s(tries) == seconds


class TestCursors:
    @given(st.datetimes(timezones=st.just(UTC)), st.text(max_size=20))
    def test_an_instant_comes_back_to_the_microsecond(self, instant: datetime, item_id: str) -> None:
        try:
            item_id.encode()
        except UnicodeEncodeError:
            return
        assert decode_cursor(encode_cursor(instant, item_id), datetime) == (instant, item_id)

    @given(st.integers(0, 2**63 - 1))
    def test_a_number_comes_back(self, number: int) -> None:
        assert decode_cursor(encode_cursor(number, "id"), int) == (number, "id")

    def test_a_cursor_is_safe_in_a_query_string(self) -> None:
        cursor = encode_cursor(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), "\u00ff\u00fe?&=")

        assert set(cursor) <= set(string.ascii_letters + string.digits + "-_")

    @given(st.text(max_size=60), st.sampled_from([int, datetime]))
    def test_any_text_is_a_cursor_of_ours_or_refused(self, text: str, kind: type[int] | type[datetime]) -> None:
        try:
            key, item_id = decode_cursor(text, kind)
        except InvalidInput as exc:
            field = exc.errors[0]["field"]
            assert (exc.code, field) == (ErrorCode.VALIDATION_ERROR, "cursor")  # noqa: PT017  # either outcome is right
        else:
            assert isinstance(key, kind)
            assert isinstance(item_id, str)

    @pytest.mark.parametrize(
        "content",
        [
            None,
            1,
            "ab",
            [],
            [1],
            [1, 2],
            [1, "a", 2],
            {"a": 1, "b": 2},
            [True, "a"],
            ["x", "a"],
            [2**63, "a"],
            [1.5, "a"],
            [-(2**63), "a"],
            [None, "a"],
            [{}, "a"],
        ],
        ids=str,
    )
    def test_json_that_is_no_cursor_is_refused(self, content: Any) -> None:
        cursor = base64.urlsafe_b64encode(orjson.dumps(content)).decode()

        with pytest.raises(InvalidInput):
            decode_cursor(cursor, int)

    @pytest.mark.parametrize("key", ["x", [], {}, "2026-13-01", 1e300, None])
    def test_a_key_that_is_no_instant_is_refused(self, key: Any) -> None:
        with pytest.raises(InvalidInput):
            decode_cursor(base64.urlsafe_b64encode(orjson.dumps([key, "a"])).decode(), datetime)


def _encoded(document: Any) -> str:
    return base64.b64encode(orjson.dumps(document)).decode()


class TestPrincipal:
    @pytest.mark.parametrize(
        ("header", "name", "roles"),
        [
            (None, "dev", {Role.USER, Role.APPROVER, Role.ADMIN}),
            ("ann", "ann", {Role.USER}),
            ("ann;approver", "ann", {Role.USER, Role.APPROVER}),
            (" ann ; approver , admin ,finance,", "ann", {Role.USER, Role.APPROVER, Role.ADMIN, "finance"}),
            ("ann;APPROVER", "ann", {Role.USER}),
            ("ann;Legal.Approve,two words,9lives,a/b," + "x" * 65, "ann", {Role.USER, "Legal.Approve"}),
            ("ann@example.test", "ann@example.test", {Role.USER}),
        ],
    )
    def test_dev_names_the_caller_in_a_header(self, header: str | None, name: str, roles: set[str]) -> None:
        headers = {} if header is None else {"x-dev-user": header}

        assert principal_of(headers, AuthMode.DEV) == Principal(name, frozenset(roles))

    @pytest.mark.parametrize("header", ["", ";admin", "a b", "a,b", "a\0", "x" * 201, "a\nb"])
    def test_dev_refuses_what_is_no_name(self, header: str) -> None:
        with pytest.raises(NotAuthenticated):
            principal_of({"x-dev-user": header}, AuthMode.DEV)

    def test_easyauth_reads_id_and_roles_from_the_platform(self) -> None:
        claims = [
            {"typ": "roles", "val": "approver"},
            {"typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role", "val": "admin"},
            {"typ": "roles", "val": "finance"},
            {"typ": "roles", "val": "no role"},
            {"typ": "name", "val": "approver"},
        ]
        claims.append({"typ": "oid", "val": "oid-1"})
        principal_header = _encoded({"auth_typ": "aad", "claims": claims})
        headers = {"x-ms-client-principal": principal_header, "x-ms-client-principal-id": "oid-1"}

        principal = principal_of(headers, AuthMode.EASYAUTH)

        assert principal == Principal("oid-1", frozenset({*Role, "finance"}))

    def test_easyauth_believes_no_dev_header(self) -> None:
        with pytest.raises(NotAuthenticated):
            principal_of({"x-dev-user": "ann;admin"}, AuthMode.EASYAUTH)

    def test_dev_believes_no_platform_header(self) -> None:
        headers = {"x-ms-client-principal": _encoded({"claims": []}), "x-ms-client-principal-id": "boss"}

        assert principal_of(headers, AuthMode.DEV).user_id == "dev"

    @pytest.mark.parametrize(
        "principal",
        [
            "",
            "!!!",
            "\u017e",
            "e30",  # without its padding
            base64.b64encode(b"not json").decode(),
            *map(_encoded, ({}, [], 1, None, {"claims": []})),
            *(_encoded({"auth_typ": "aad", "claims": claims}) for claims in (1, [1], [{}], [], None)),
        ],
    )
    def test_easyauth_refuses_what_the_platform_never_sends(self, principal: str) -> None:
        headers = {"x-ms-client-principal": principal, "x-ms-client-principal-id": "oid"}

        with pytest.raises(NotAuthenticated):
            principal_of(headers, AuthMode.EASYAUTH)

    @given(st.text(max_size=80))
    def test_easyauth_answers_any_header_with_a_principal_or_a_refusal(self, text: str) -> None:
        for value in (text, base64.b64encode(text.encode("utf-8", "replace")).decode()):
            try:
                principal_of({"x-ms-client-principal": value, "x-ms-client-principal-id": "oid"}, AuthMode.EASYAUTH)
            except NotAuthenticated:
                continue

    def test_a_principal_without_id_is_nobody(self) -> None:
        with pytest.raises(NotAuthenticated):
            principal_of({"x-ms-client-principal": _encoded({"claims": []})}, AuthMode.EASYAUTH)


class TestErrors:
    def test_there_are_24_codes_and_each_has_a_status(self) -> None:
        assert len(ErrorCode) == 24
        assert set(HTTP_STATUS) == set(ErrorCode)

    @pytest.mark.parametrize(
        "error",
        [
            InvalidInput(ErrorCode.VALIDATION_ERROR, "m", errors=[{"field": "a", "message": "b"}]),
            InvalidState("m"),
            NotAuthenticated(),
            NotAuthenticated("x"),
            Transient(ErrorCode.RATE_LIMITED, "m", retry_after_s=3.5),
            Conflict(ErrorCode.CONFLICT, "m"),
        ],
    )
    def test_an_error_crosses_a_process_border_whole(self, error: AppError) -> None:
        again = pickle.loads(pickle.dumps(error))

        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert (again.retryable, again.status, str(again)) == (error.retryable, error.status, str(error))


class TestIds:
    def test_ids_sort_by_creation(self) -> None:
        ids = [new_id() for _ in range(1_000)]

        assert ids == sorted(ids)
        assert len(set(ids)) == 1_000
        assert all(is_valid_id(made) for made in ids)

    @pytest.mark.parametrize(
        "text", ["", ".", "-a", "_a", "a/b", "a b", "a" * 65, "\u017e", "a\n", "a:b", "a\0", "{a}"]
    )
    def test_what_could_break_a_key_is_no_id(self, text: str) -> None:
        assert not is_valid_id(text)


def test_an_ended_session_moves_no_more() -> None:
    assert all(SessionStatus.ENDED not in sources for sources in [*ALLOWED_FROM.values(), RESUME_FROM])
    assert SessionStatus.CREATED not in ALLOWED_FROM
