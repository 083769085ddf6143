"""Near-duplicates: what goes is a copy, what stays has no copy, whatever the order."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coa.errors import OutputError
from coa.records.plain_words import words
from curate.screening.near_duplicates import MIN_RECALL, Duplicate, NearDuplicates, bands, find_in
from curate.screening.shingles import distinct, hash_words, pad, runs

FEW_WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=12).map(" ".join)
CORPUS = st.dictionaries(st.text("xyz", min_size=1, max_size=3), FEW_WORDS, max_size=12)


def find(
    folder: Path, corpus: dict[str, str], *, size: int = 2, similarity: float = 0.5
) -> list[Duplicate]:
    with NearDuplicates(folder, shingle_words=size, min_similarity=similarity) as copies:
        rows = list(corpus.items())
        for some in (rows[:3], rows[3:]):
            copies.add(
                [row_id for row_id, _ in some], hash_words([words(text) for _, text in some])
            )
        return list(copies.find())


def shingle_set(text: str, size: int) -> set[tuple[str, ...]]:
    own = words(text)
    own += [""] * (size - len(own)) if own else []
    return {tuple(own[i : i + size]) for i in range(len(own) - size + 1)}


def similarity(one: str, other: str, size: int) -> float:
    first, second = shingle_set(one, size), shingle_set(other, size)
    return len(first & second) / len(first | second) if first | second else 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@settings(max_examples=40)
@given(CORPUS)
def test_every_duplicate_is_as_similar_as_it_says_to_a_row_that_stays(
    folder: Path, corpus: dict[str, str]
) -> None:
    found = find(folder, corpus)
    gone = {duplicate.row_id for duplicate in found}
    for duplicate in found:
        assert duplicate.of < duplicate.row_id
        assert duplicate.of not in gone
        assert duplicate.similarity >= 0.5
        assert duplicate.similarity == pytest.approx(
            similarity(corpus[duplicate.row_id], corpus[duplicate.of], 2)
        )


@settings(max_examples=40)
@given(CORPUS, st.randoms(use_true_random=False))
def test_the_order_in_which_rows_come_does_not_matter(
    folder: Path, corpus: dict[str, str], chance: random.Random
) -> None:
    shuffled = dict(chance.sample(sorted(corpus.items()), len(corpus)))
    assert find(folder, shuffled) == find(folder, corpus)


@settings(max_examples=40)
@given(CORPUS)
def test_equal_texts_leave_exactly_one(folder: Path, corpus: dict[str, str]) -> None:
    gone = {duplicate.row_id for duplicate in find(folder, corpus, similarity=1.0)}
    left = [
        frozenset(shingle_set(text, 2))
        for row_id, text in corpus.items()
        if row_id not in gone and text
    ]
    assert len(left) == len(set(left))


def test_the_smallest_id_stays_and_there_are_no_chains(folder: Path) -> None:
    # b is near a, c near b but not near a: c stays, because b does not.
    corpus = {"c": "3 4 5 6 7 8", "b": "2 3 4 5 6 7", "a": "1 2 3 4 5 6"}
    assert find(folder, corpus) == [Duplicate("b", "a", 4 / 6)]


def test_case_punctuation_and_composition_do_not_hide_a_copy(folder: Path) -> None:
    corpus = {
        "a": "Caf\u00e9 M\u00fcller, in Z\u00fcrich!",
        "b": "cafe\u0301 mu\u0308ller in zu\u0308rich",
    }
    assert [duplicate.row_id for duplicate in find(folder, corpus, similarity=1.0)] == ["b"]


def test_empty_texts_repeat_nothing_and_short_ones_can(folder: Path) -> None:
    corpus = {"a": "", "b": "", "c": " ... \x00", "d": "yes", "e": "Yes!", "f": "no", "g": "\u2014"}
    assert find(folder, corpus, size=5, similarity=0.8) == [Duplicate("e", "d", 1.0)]


def test_a_text_of_ten_megabytes_is_compared_like_any_other(folder: Path) -> None:
    chance = random.Random(0)
    text = " ".join(f"{chance.random()}\x00{'x' * 100}" for _ in range(85_000))
    assert len(text) > 10_000_000
    assert [duplicate.row_id for duplicate in find(folder, {"a": text, "b": text + " six"})] == [
        "b"
    ]


def test_planted_copies_are_found_and_nothing_else(folder: Path) -> None:
    chance = random.Random(0)
    vocabulary = [f"w{i}" for i in range(2000)]
    corpus: dict[str, str] = {}
    for i in range(300):
        text = chance.choices(vocabulary, k=120)
        corpus[f"{i:04}"] = " ".join(text)
        text[chance.randrange(120)] = "changed"
        corpus[f"{i:04}-copy"] = " ".join(text)
    gone = {duplicate.row_id for duplicate in find(folder, corpus, size=5, similarity=0.8)}
    assert gone == {row_id for row_id in corpus if row_id.endswith("-copy")}


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    count, size = bands(threshold)
    assert count * size <= 128
    if threshold >= 0.1:
        assert 1 - (1 - threshold**size) ** count >= MIN_RECALL


def test_hashes_do_not_depend_on_the_process() -> None:
    code = (
        "from curate.screening.shingles import hash_words; "
        "print(hash_words([['ada', 'lovelace']]).hashes.tolist())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{hash_words([['ada', 'lovelace']]).hashes.tolist()}\n".encode()}


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9), max_size=5), st.integers(1, 4))
def test_runs_are_equal_where_their_words_are(texts: list[list[str]], size: int) -> None:
    found = runs(pad(hash_words(texts), size), size)
    padded = [text + [""] * (size - len(text)) if text else [] for text in texts]
    expected = [tuple(text[i : i + size]) for text in padded for i in range(len(text) - size + 1)]
    assert len(found.hashes) == len(expected)
    assert len(set(found.hashes.tolist())) == len(set(expected))
    once = distinct(found)
    assert [set(once.row(i).tolist()) for i in range(len(texts))] == [
        set(found.row(i).tolist()) for i in range(len(texts))
    ]
    assert all(np.all(np.diff(once.row(i).astype(object)) > 0) for i in range(len(texts)))


@settings(max_examples=25)
@given(CORPUS, st.integers(1, 4), st.integers(1, 30))
def test_texts_of_several_processes_are_compared_as_those_of_one(
    tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, str], count: int, at_once: int
) -> None:
    folders = [tmp_path_factory.mktemp("part") for _ in range(count)]
    rows = list(corpus.items())
    for number, folder in enumerate(folders):
        own = rows[number::count]
        part = NearDuplicates(folder, shingle_words=2, min_similarity=0.5, name="texts")
        with part as copies:
            hashed = hash_words([words(text) for _, text in own])
            copies.add([row_id for row_id, _ in own], hashed)
    found = list(find_in(folders, "texts", 0.5, at_once))
    assert found == find(folders[0], corpus)


def test_a_duplicate_comes_back_with_its_note(tmp_path: Path) -> None:
    with NearDuplicates(tmp_path, shingle_words=2, min_similarity=0.5) as copies:
        copies.add(["b", "a"], hash_words([["x", "y"]] * 2), ["of b", "of a"])
        assert [(found.row_id, found.note) for found in copies.find()] == [("b", "of b")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="file"),
        NearDuplicates(tmp_path / "file", shingle_words=2, min_similarity=0.5),
    ):
        pass
