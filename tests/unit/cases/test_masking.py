"""What is hidden in a recorded case, and that it is always hidden behind the same mask."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.cases.masking import BadRules, Masking, rules_of


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "write to Jane.Doe@shop.example, or jane.doe@shop.example",
            "write to mail-1@example.com, or mail-1@example.com",
        ),
        ("call +49 151 2345678 or (030) 1234 5678", "call +1 555 000001 or +1 555 000002"),
        ("call 030/12345678 at 10:15", "call +1 555 000001 at 10:15"),
        ("Authorization: Bearer abcdefgh12345678", "secret=1 token-1"),
        ("key sk-abcdefghijklmnop", "key token-1"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.abc", "token-1"),
        ("postgresql://ann:hush-hush@db.example/x", "postgresql://secret-1@db.example/x"),
        ("password=hunter22 and password = 'hunter22'", "secret=1 and secret=2'"),
        ("AccountKey=abcd1234abcd==;Endpoint", "secret=1;Endpoint"),
        ("-----BEGIN PRIVATE KEY-----\nab\ncd\n-----END PRIVATE KEY-----", "secret-1"),
        # What only looks like one.
        (
            "order A-1001 of 2026-11-30, 1,240.00 EUR, 127.0.0.1:7071",
            "order A-1001 of 2026-11-30, 1,240.00 EUR, 127.0.0.1:7071",
        ),
        ("01a22eb8-90de-702d-a321-8c50b52091ee", "01a22eb8-90de-702d-a321-8c50b52091ee"),
    ],
)
def test_built_in_rules_find_secrets_tokens_addresses_and_numbers_of_phones(text: str, masked: str) -> None:
    assert Masking().text(text) == masked


def test_a_value_has_one_mask_wherever_it_stands() -> None:
    masking = Masking()
    asked = masking.text("I am jane@shop.example")
    arguments = masking.value({"to": "jane@shop.example", "cc": ["bob@shop.example"], "limit": 5})
    result = masking.text('{"found": "JANE@shop.example"}')

    assert asked == "I am mail-1@example.com"
    assert arguments == {"to": "mail-1@example.com", "cc": ["mail-2@example.com"], "limit": 5}
    assert result == '{"found": "mail-1@example.com"}'
    assert masking.counts == {"mail": 2}


def test_fields_with_the_name_of_a_secret_are_hidden_whole() -> None:
    told = {
        "api_key": "x",
        "password": 1234,
        "nested": {"Token": "y", "token_count": 7, "is_secret": True},
        "secret": "",
    }
    assert Masking().value(told) == {
        "api_key": "secret-1",
        "password": "secret-2",
        "nested": {"Token": "secret-3", "token_count": 7, "is_secret": True},
        "secret": "",
    }


def test_users_are_hidden_by_their_ids_also_inside_texts() -> None:
    masking = Masking()
    masking.users(["fay", "al", None, "fay.smith"])

    assert masking.user("al") == "user-2"
    assert masking.text("Rejected by fay. fay.smith and fayette agreed, al too.") == (
        "Rejected by user-1. user-3 and fayette agreed, al too."
    )


def test_own_rules_come_first_and_what_they_hid_no_other_looks_at(tmp_path: Path) -> None:
    file = tmp_path / "mask.yaml"
    file.write_text(
        "- name: order\n  pattern: '\\bA-\\d{4}\\b'\n  mask: 'A-9{n:03}'\n"
        "- name: customer\n  field: customer\n"
        "- name: shop\n  pattern: '[a-z.]+@shop.example'\n  mask: 'someone{n}@else.example'\n"
    )
    masking = Masking(rules_of(file))

    assert masking.value({"customer": "Jane", "text": "A-1001, A-1002, A-1001 of jane@shop.example"}) == {
        "customer": "customer-1",
        "text": "A-9001, A-9002, A-9001 of someone1@else.example",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- name: x\n", "a rule has a pattern or a field"),
        ("- name: x\n  pattern: '('\n", "0: Value error"),
        ("- name: x\n  pattern: a\n  mask: '{m}'\n", "KeyError"),
        ("- name: x\n  patern: a\n", "patern"),
        ("- [", "is no YAML"),
    ],
)
def test_a_file_of_rules_that_is_wrong_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "mask.yaml"
    file.write_text(text)
    with pytest.raises(BadRules, match=why):
        rules_of(file)
