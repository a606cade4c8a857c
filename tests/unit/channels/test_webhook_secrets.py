"""Secrets of webhooks are derived, and told apart from those of other deployments' secrets."""

from __future__ import annotations

import base64

from shared.sessions.channels.secrets import SecretMark, WebhookSecrets

_OLD, _NEW = b"o" * 32, b"n" * 32


def test_a_secret_is_found_again_from_what_is_stored_and_never_twice_the_same() -> None:
    secrets = WebhookSecrets([_NEW])
    (one, mark), (other, _) = secrets.new(), secrets.new()

    assert one != other
    assert one.startswith("whsec_")
    assert len(base64.b64decode(one.removeprefix("whsec_"))) == 32
    assert secrets.of(mark) == one
    assert one not in repr(mark)


def test_it_stays_the_same_while_the_deployments_secret_is_rotated_and_ends_with_it() -> None:
    secret, mark = WebhookSecrets([_OLD]).new()

    assert WebhookSecrets([_NEW, _OLD]).of(mark) == secret
    assert WebhookSecrets([_NEW]).of(mark) is None
    assert WebhookSecrets([_OLD]).of(SecretMark(mark.salt, "0" * 64)) is None


def test_nothing_shows_the_keys() -> None:
    assert "nnnn" not in repr(WebhookSecrets([_NEW]))
