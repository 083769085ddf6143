"""Find what is private in any text and in disguises, and take nothing else for it."""

import json
import os
import random
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from data_cards.publishing.private_text import PrivateKind, find_private, fold
from data_cards.settings import public

pytest.importorskip("detect_secrets")
pytest.importorskip("linkify_it")
pytest.importorskip("phonenumbers")
CASES = json.loads((Path(__file__).parent / "cases/private_text.json").read_text(encoding="utf-8"))
AIM = 0.95
"""The share of the list that has to be found."""
CALLABLE = 6
"""Phone numbers in the real trajectories that somebody could call: no false alarms."""
ALPHABETS = {
    "alnum": string.ascii_letters + string.digits,
    "letters": string.ascii_letters,
    "word": string.ascii_letters + string.digits + "-_",
    "hex": "0123456789abcdef",
    "upper": string.ascii_uppercase + "234567",
    "base64": string.ascii_letters + string.digits + "+/",
}
DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "boxed": lambda key: f"\\boxed{{{key}}}",
    "code": lambda key: f"`{key}`",
    "full width": lambda key: key.translate({n: n + 0xFEE0 for n in range(0x21, 0x7F)}),
    "invisible signs between": lambda key: "\u200b".join(key),
    "escaped for Markdown": lambda key: key.replace("_", "\\_"),
    "among Chinese": lambda key: f"密钥是{key}。",
    "in a query": lambda key: f"x={key}&y=1",
}


def keys() -> Iterator[str]:
    """Yield one key of each provider: its prefix is stored in pieces, its body is drawn here."""
    draw = random.Random(0)
    for _, pieces, length, alphabet, template in CASES["keys"]:
        yield template.format("".join(pieces) + drawn(draw, length, alphabet))


def drawn(draw: random.Random, length: int, alphabet: str) -> str:
    if alphabet == "uuid":
        sizes = (8, 4, 4, 4, 12)
        return "-".join(drawn(draw, size, "hex") for size in sizes)
    return "".join(draw.choices(ALPHABETS[alphabet], k=length))


def missed(texts: list[str], kind: PrivateKind) -> list[str]:
    """The texts in which nothing of that kind is found."""
    return [text for text in texts if kind not in {it.kind for it in find_private(text, "US")}]


@pytest.mark.parametrize(
    ("name", "kind", "least"),
    [("emails", PrivateKind.EMAIL, 90), ("phones", PrivateKind.PHONE, 80)],
)
def test_addresses_and_numbers_are_found_in_their_disguises(
    name: str, kind: PrivateKind, least: int
) -> None:
    texts = CASES[name]
    assert len(texts) >= least
    found = missed(texts, kind)
    assert len(found) <= (1 - AIM) * len(texts), found


@pytest.mark.parametrize("disguise", DISGUISES)
def test_keys_of_all_providers_are_found_in_each_disguise(disguise: str) -> None:
    texts = [DISGUISES[disguise](key) for key in keys()]
    assert len(texts) >= 110
    found = missed(texts, PrivateKind.KEY)
    assert len(found) <= (1 - AIM) * len(texts), found


def test_folding_keeps_letters_and_lines() -> None:
    assert fold("Ünï cödé\nis\tkept") == "Ünï cödé\nis\tkept"
    assert fold("\ufeffa\u200db\u00adc\ufe0f\x00") == "abc"


def test_a_setting_that_looks_like_a_key_is_hidden_in_cards() -> None:
    key = "gs" + "k_" + drawn(random.Random(1), 52, "alnum")
    plain = {"model": "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "seed": 3, "names": ["a", "b"]}
    shown = public({**plain, "tools": {"env": {"API_KEY": key}, "arguments": ["--token", key]}})
    assert key not in json.dumps(shown)
    assert "looks like a key" in shown["tools"]["env"]["API_KEY"]
    assert {name: shown[name] for name in plain} == plain


def real_texts() -> Iterator[tuple[str, str]]:
    """Real trajectories, whole, and a sample of real passages."""
    folder = Path(os.environ["COA_REAL_DATA"])
    for path in sorted(folder.glob("trajectories/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield path.name, "\n".join(strings(json.loads(line)))
    for path in sorted(folder.glob("corpus_*.parquet")):
        for text in pl.read_parquet(path, columns=["text"])["text"].sample(1_500, seed=0):
            yield path.name, text


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


@pytest.mark.slow
@pytest.mark.skipif("COA_REAL_DATA" not in os.environ, reason="needs real data")
@pytest.mark.long
def test_real_text_is_hardly_ever_suspected() -> None:
    rows, found = 0, []
    for _, text in real_texts():
        rows += 1
        found += find_private(text, "US")
    assert rows > 7_000
    assert len(found) - CALLABLE <= rows / 1_000, found


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
