"""Signed tokens: genuine, unaltered, in time, and for their own purpose only."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from shared.signing import ApprovalLinks, RelayTokens, SigningKeys, TokenExpired, TokenInvalid, derive_key

_SECRET = "s" * 32
_NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
_LINKS = ApprovalLinks(_SECRET, "https://app.test/")


def _token(expires_at: datetime = _NOW + timedelta(hours=1)) -> str:
    return _LINKS.token("approval-1", expires_at=expires_at)


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_link_names_its_approval() -> None:
    url = _LINKS.url("approval-1", expires_at=_NOW + timedelta(seconds=1))

    assert url.startswith("https://app.test/api/approve/")
    assert _LINKS.approval_id(url.rpartition("/")[2], now=_NOW) == "approval-1"


def test_a_link_says_nothing_of_who_decides() -> None:
    claims = jwt.decode(_token(), options={"verify_signature": False})

    assert set(claims) == {"aud", "sub", "exp"}


@pytest.mark.parametrize("late_s", [0, 1, 10**8])
def test_a_link_ends_with_the_wait(late_s: int) -> None:
    with pytest.raises(TokenExpired):
        _LINKS.approval_id(_token(_NOW), now=_NOW + timedelta(seconds=late_s))


def test_an_expired_link_that_is_not_genuine_is_invalid_and_not_expired() -> None:
    forged = ApprovalLinks("x" * 32, "https://app.test").token("approval-1", expires_at=_NOW)

    with pytest.raises(TokenInvalid):
        _LINKS.approval_id(forged, now=_NOW + timedelta(days=1))


@pytest.mark.parametrize("position", range(0, 120, 7))
def test_a_token_altered_anywhere_is_invalid(position: int) -> None:
    token = _token()
    other = "A" if token[position] != "A" else "B"

    with pytest.raises(TokenInvalid):
        _LINKS.approval_id(token[:position] + other + token[position + 1 :], now=_NOW)


def _claims(**changes: object) -> dict[str, object]:
    return {"aud": "parley/approval", "sub": "approval-1", "exp": int(_NOW.timestamp()) + 99} | changes


_KEY = derive_key(_SECRET, "parley/approval")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "\u017e",
        _token() + ".x",
        _token().rpartition(".")[0] + ".",
        f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(_claims())}.",
        jwt.encode(_claims(), _SECRET, algorithm="HS256"),  # the secret itself signs nothing
        jwt.encode(_claims(), _KEY + _KEY, algorithm="HS512"),
        jwt.encode(_claims(), derive_key(_SECRET, "parley/relay"), algorithm="HS256"),
        jwt.encode(_claims(aud="parley/relay"), _KEY, algorithm="HS256"),
        jwt.encode(_claims(aud=None), _KEY, algorithm="HS256"),
        *(
            jwt.encode({name: value for name, value in _claims().items() if name != left_out}, _KEY, algorithm="HS256")
            for left_out in ("aud", "sub", "exp")
        ),
        jwt.encode(_claims(exp="soon"), _KEY, algorithm="HS256"),
        jwt.encode(_claims(exp=None), _KEY, algorithm="HS256"),
        RelayTokens(_SECRET).current(),
    ],
)
def test_what_is_not_a_link_of_ours_is_invalid(token: str) -> None:
    with pytest.raises(TokenInvalid):
        _LINKS.approval_id(token, now=_NOW)


def test_a_relay_token_is_its_own_and_only_its_own() -> None:
    tokens = RelayTokens(_SECRET)

    assert tokens.check(f"Bearer {tokens.current()}")
    assert tokens.check(f"bearer {tokens.current()}")
    assert RelayTokens(_SECRET).check(f"Bearer {tokens.current()}"), "another process of the same app"
    assert tokens.current() == tokens.current()
    assert not RelayTokens("x" * 32).check(f"Bearer {tokens.current()}")


_OLD, _NEW = "o" * 32, "n" * 32
_BEFORE = ApprovalLinks(f"k1:{_OLD}", "")
_DURING = ApprovalLinks(f"k2:{_NEW},k1:{_OLD}", "")
_AFTER = ApprovalLinks(f"k2:{_NEW}", "")
_LATER = _NOW + timedelta(hours=1)


class TestRotation:
    def test_the_newest_key_signs_and_is_named(self) -> None:
        token = _DURING.token("a", expires_at=_LATER)

        assert jwt.get_unverified_header(token)["kid"] == "k2"
        assert _AFTER.approval_id(token, now=_NOW) == "a"

    def test_links_of_the_old_key_hold_until_it_is_removed(self) -> None:
        token = _BEFORE.token("a", expires_at=_LATER)

        assert _DURING.approval_id(token, now=_NOW) == "a"
        with pytest.raises(TokenInvalid):
            _AFTER.approval_id(token, now=_NOW)

    def test_links_made_before_keys_had_ids_hold_too(self) -> None:
        token = ApprovalLinks(_OLD, "").token("a", expires_at=_LATER)

        assert "kid" not in jwt.get_unverified_header(token)
        assert ApprovalLinks(f"k2:{_NEW},{_OLD}", "").approval_id(token, now=_NOW) == "a"
        with pytest.raises(TokenInvalid):
            _DURING.approval_id(token, now=_NOW)  # the same secret, but nobody says it is the one without an id

    @pytest.mark.parametrize("kid", ["k2", "k3", "", "k1,k2", 1, None, {"k": 1}])
    def test_naming_another_key_does_not_help_a_forger(self, kid: object) -> None:
        key = derive_key("x" * 32, "parley/approval")
        token = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{_part(_claims())}"
        forged = f"{token}.{jwt.encode({}, key).rpartition('.')[2]}"

        with pytest.raises(TokenInvalid):
            _DURING.approval_id(forged, now=_NOW)

    def test_the_relay_rotates_with_the_links(self) -> None:
        old, both, new = (RelayTokens(links.secret) for links in (_BEFORE, _DURING, _AFTER))

        assert both.check(f"Bearer {old.current()}")
        assert new.check(f"Bearer {both.current()}")
        assert not new.check(f"Bearer {old.current()}")
        assert not old.check("Bearer not.a.token")

    def test_a_retired_key_verifies_nothing_and_is_kept(self) -> None:
        new, old = _DURING.secret.split(",")
        keys = SigningKeys.parse(f"{new},!{old}")

        assert len(keys.secrets) == len(keys.retired) == 1
        with pytest.raises(TokenInvalid):
            ApprovalLinks(f"{new},!{old}", "").approval_id(_BEFORE.token("a", expires_at=_LATER), now=_NOW)
        with pytest.raises(ValueError, match="one must sign"):
            SigningKeys.parse(f"!{old}")
        with pytest.raises(ValueError, match="used twice"):
            SigningKeys.parse(f"{new},!{new}")

    def test_keys_show_no_secret(self) -> None:
        assert _NEW not in repr(SigningKeys.parse(_DURING.secret))


def _relay(seconds: int, **changes: object) -> str:
    claims = {"aud": "parley/relay", "exp": int(time.time()) + seconds} | changes
    return jwt.encode(claims, derive_key(_SECRET, "parley/relay"), algorithm="HS256")


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        RelayTokens(_SECRET).current(),
        f"Basic {RelayTokens(_SECRET).current()}",
        f"Bearer {_relay(-1)}",
        f"Bearer {_relay(60, aud='parley/approval')}",
        f"Bearer {_token(datetime.now(UTC) + timedelta(hours=1))}",
        f"Bearer {_part({'alg': 'none'})}.{_part({'aud': 'parley/relay', 'exp': 2**40})}.",
        "Bearer \u017e",
    ],
)
def test_the_relay_takes_nothing_else(authorization: str) -> None:
    assert not RelayTokens(_SECRET).check(authorization)


def test_keys_of_two_purposes_differ() -> None:
    assert derive_key(_SECRET, "a") != derive_key(_SECRET, "b")
    assert len(derive_key(_SECRET, "a")) == 32
