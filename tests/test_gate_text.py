"""Find what is private in any text, and take nothing else for it."""

import time

import pytest

from data_cards.publishing.private_text import PrivateKind, find_private

pytest.importorskip("linkify_it")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jane.doe@example.org for more.", PrivateKind.EMAIL),
        ("Mail:jane+x@mail.example.co.uk.", PrivateKind.EMAIL),
        ("Call +44 20 7946 0958 now", PrivateKind.PHONE),
        ("Call (202) 456-1414.", PrivateKind.PHONE),
        ("token hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH", PrivateKind.KEY),
        ("AKIA" + "IOSFODNN7EXAMPLE", PrivateKind.KEY),
        ("-----BEGIN RSA PRIVATE KEY-----", PrivateKind.KEY),
        ("https://me:secret@host/", PrivateKind.KEY),
        ("ghp_" + "a1B2" * 9, PrivateKind.KEY),
        ("sk-ant-" + "api03-abcdefghijklmnopqrstuvwx", PrivateKind.KEY),
        ("x" * 1_990 + " jane@example.org " + "y" * 5_000, PrivateKind.EMAIL),
    ],
)
def test_what_is_private_is_found_wherever_it_stands_and_never_shown(
    text: str, kind: PrivateKind
) -> None:
    found = {it.kind: it.shown for it in find_private(text, "US")}
    assert kind in found
    assert "example" not in found[kind]
    assert "secret" not in found[kind]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Clara Fairfax was born on 12 March 1967 in West Fenwick.",
        "(1310-1356) and 1914–1918",
        "3.14159265358979",
        "10.1016/j.cell.2006",
        "The population was 1,234,567,890 in 2020.",
        "mw-train-000041 @ 3pm",
        "GPU0 @ 1.41 GHz",
        "ISBN 978-3-16-148410-0",
        "hf_hub_download(repo)",
        "risk-based, sk-learn",
        "Route 66, exit 202, mile 456",
    ],
)
def test_names_dates_numbers_and_code_are_not_private(text: str) -> None:
    assert find_private(text, "US") == []


@pytest.mark.parametrize(
    "piece", ["@", "a@", "eyJ", "//", "1 ", "+1 ", "sk-", "a@b.", "aws", "://"]
)
def test_no_pattern_runs_away_on_a_long_text(piece: str) -> None:
    started = time.process_time()
    find_private(piece * (50_000 // len(piece)), "US")
    assert time.process_time() - started < 20
