"""Edited questions are found, different ones are not; measured on real questions of seven sets."""

import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.microworld.factory import MicroworldParams
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, make_world
from coa.questions.near_questions import NearQuestions, question_key
from coa.records.plain_words import fold_look_alikes, words

REAL = Path(os.environ.get("COA_REAL_DATA", ""))
real_data = pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ,
    reason="COA_REAL_DATA does not name the folder of real questions",
)
QUESTIONS = [
    "Which film did the director of Iron Meadow shoot in Lisbon?",
    "Who is the mayor of the city where Ada Lovelace went to school?",
    "Is the Kestrel River longer than the river that flows through Villa Pellin?",
    "what is the name of the first song that the beatles sang on television",
    "In what year did the company that built Tower Bridge move to Leeds?",
]
CYRILLIC = {"a": "\u0430", "e": "\u0435", "o": "\u043e", "c": "\u0441", "p": "\u0440"}


def near(*questions: str) -> NearQuestions:
    return NearQuestions(questions, ["set"] * len(questions))


@pytest.mark.parametrize(
    "asked",
    [
        "Which film did the famous director of Iron Meadow shoot in Lisbon?",
        "Which film did director the of Iron Meadow shoot in Lisbon?",
        "Which film did the director of Iron Meadow make in Lisbon?",
        "which movie did the director of iron meadow shoot in lisbon",
        "Which film did the director of Iron Meadow shoot?",
        "Which film did the director of Ir\u043en Mead\u043ew sh\u043eot in Lisbon?",
        "Which fi\u200blm did the d\u00edrector of Iron Meadow shoot in L\u00ecsbon?",
    ],
)
def test_an_edited_question_is_near_and_the_nearest_is_named(asked: str) -> None:
    found = near(*reversed(QUESTIONS)).nearest(asked)
    assert found is not None and found.place == len(QUESTIONS) - 1


@pytest.mark.parametrize(
    "asked",
    [
        "Which film did the director of Copper Anchor shoot in Oslo?",
        "When did the director of Iron Meadow leave Lisbon?",
        "Who was the teacher that Ada Lovelace liked best at school?",
        "Lisbon",
        "",
        "?!",
    ],
)
def test_another_question_of_the_same_kind_or_about_the_same_thing_is_not_near(asked: str) -> None:
    assert near(*QUESTIONS).nearest(asked) is None


def test_a_set_of_templates_is_held_to_a_higher_limit_than_real_questions() -> None:
    people = [f"{first} {last}" for first in ("Ada", "Bo", "Cy", "Di") for last in ("Low", "May")]
    asked = ("spouse", "employer", "hometown", "mayor of the hometown", "brother", "neighbour")
    templates = [f"What is the {what} of {name}?" for name in people for what in asked]
    found = NearQuestions(
        [*QUESTIONS, *templates], ["real"] * len(QUESTIONS) + ["templates"] * len(templates)
    )
    assert found.min_similarity["real"] == 0.7
    assert found.min_similarity["templates"] > 0.8
    assert found.nearest("What is the uncle of Ada Low?") is None
    assert found.nearest("Of Ada Low what is the spouse?") is not None


def test_copies_and_templates_cost_no_more_than_other_questions() -> None:
    started = time.process_time()
    copies = near(*[QUESTIONS[0]] * 10_000)
    places = near(*[f"What is the population of the town of place{i}?" for i in range(10_000)])
    for i in range(1000):
        assert copies.nearest(f"{QUESTIONS[0]} {i}") == copies.nearest(f"{QUESTIONS[0]} {i}")
        assert places.nearest(f"What is the population of the town of nowhere{i}?") is None
    assert time.process_time() - started < 10


@given(st.lists(st.text(max_size=40), max_size=5))
def test_every_question_is_near_itself(questions: list[str]) -> None:
    found = near(*questions, *QUESTIONS)
    for text in questions:
        nearest = found.nearest(text)
        assert (nearest is not None and nearest.similarity == 1) == bool(words(text))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\u0420\u0430\u0440\u0430 Beyonc\u00e9", "Papa Beyonce"),
        (
            "Sm\u00f8rrebr\u00f8d \u0141\u00f3d\u017a \uff26\uff55\uff4c\uff4c",
            "Smorrebrod Lodz Full",
        ),
        ("zero\u200bwidth\u00ad soft\ufeff", "zerowidth soft"),
        (
            "\u304c\u304e \u0939\u093f\u0928\u094d\u0926\u0940",
            "\u304c\u304e \u0939\u093f\u0928\u094d\u0926\u0940",
        ),
    ],
)
def test_look_alikes_are_folded_and_marks_of_other_scripts_stay(text: str, plain: str) -> None:
    assert fold_look_alikes(text) == plain


@pytest.mark.parametrize("letter", CYRILLIC)
def test_a_look_alike_letter_does_not_change_the_key_of_a_question(letter: str) -> None:
    for question in QUESTIONS:
        changed = question.replace(letter, CYRILLIC[letter])
        assert question_key(changed) == question_key(question)


def test_an_inserted_word_hides_no_question_of_the_invented_world() -> None:
    params = MicroworldParams()
    world = make_world(params.world)
    held_out = [row.question for row in make_questions(world, Group.VALIDATION, 600, params.seed)]
    train = [row.question for row in make_questions(world, Group.TRAIN, 2000, params.seed)]
    found = NearQuestions(held_out, ["invented"] * len(held_out))
    assert found.min_similarity["invented"] >= 0.9
    chance = random.Random(3)
    vocabulary = ["really", "zanzibar", *{word for text in held_out for word in text.split()}]
    for text in held_out:
        own = text.split()
        own.insert(chance.randrange(len(own) + 1), chance.choice(sorted(vocabulary)))
        near = found.nearest(" ".join(own))
        assert near is not None and held_out[near.place] == text
    assert sum(found.nearest(text) is not None for text in train) <= 2


# Real questions

Edit = Callable[[list[str], random.Random, list[str]], None]


def _insert(own: list[str], chance: random.Random, vocabulary: list[str]) -> None:
    own.insert(chance.randrange(len(own) + 1), chance.choice(vocabulary))


def _swap(own: list[str], chance: random.Random, _: list[str]) -> None:
    first, second = chance.sample(range(len(own)), 2)
    own[first], own[second] = own[second], own[first]


def _replace_every_seventh(own: list[str], chance: random.Random, vocabulary: list[str]) -> None:
    for i in range(min(6, len(own) - 1), len(own), 7):
        own[i] = chance.choice(vocabulary)


def _delete(own: list[str], chance: random.Random, _: list[str]) -> None:
    del own[chance.randrange(len(own))]


def _cyrillic(own: list[str], chance: random.Random, _: list[str]) -> None:
    i = chance.randrange(len(own))
    own[i] = "".join(CYRILLIC.get(letter, letter) for letter in own[i])


def _mistype(own: list[str], chance: random.Random, _: list[str]) -> None:
    """Make one typing mistake in every word of five letters and more."""
    for i, word in enumerate(own):
        if len(word) < 5:
            continue
        at = chance.randrange(1, len(word) - 1)
        own[i] = chance.choice(
            [
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
                word[:at] + chance.choice("aeioutrn") + word[at + 1 :],
            ]
        )


def _join(own: list[str], chance: random.Random, _: list[str]) -> None:
    own[:] = ["_".join(own)]


EDITS: dict[str, tuple[Edit, float, float]] = {
    "one word put in": (_insert, 0.995, 0.995),
    "two words swapped": (_swap, 1, 1),
    "every seventh word replaced": (_replace_every_seventh, 0.95, 0.0),
    "one word left out": (_delete, 0.995, 0.95),
    "Cyrillic letters in one word": (_cyrillic, 1, 1),
    "a typing mistake in every long word": (_mistype, 0.95, 0.6),
    "underscores for blanks": (_join, 1, 1),
}
"""The edit; the least share found in sets of the limit 0.7, and in those of a higher one."""


@pytest.fixture(scope="module")
def autocoa() -> pl.DataFrame:
    return pl.read_parquet(REAL / "questions_autocoa.parquet").select(
        "split", "dataset", "question"
    )


@real_data
@pytest.mark.parametrize("name", EDITS)
def test_edited_copies_of_real_questions_are_found(autocoa: pl.DataFrame, name: str) -> None:
    edit, least, least_of_templates = EDITS[name]
    held_out = autocoa.filter(pl.col("split") == "test").unique("question", maintain_order=True)
    found = NearQuestions(held_out["question"].to_list(), held_out["dataset"].to_list())
    vocabulary = sorted(
        {word for text in held_out["question"] for word in re.findall(r"\w+", text)}
    )
    chance = random.Random(7)
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for _, dataset, question in held_out.iter_rows():
        own = question.split()
        edit(own, chance, vocabulary)
        is_real = found.min_similarity[dataset] == 0.7
        hits[is_real].append(found.nearest(" ".join(own)) is not None)
    shares = {is_real: sum(own) / len(own) for is_real, own in hits.items()}
    print(
        f"\n{name}: {shares[True]:.3f} of {len(hits[True])}, "
        f"{shares[False]:.3f} of {len(hits[False])}"
    )
    assert shares[True] >= least
    assert shares[False] >= least_of_templates


@real_data
def test_different_real_questions_are_hardly_ever_taken_for_near(autocoa: pl.DataFrame) -> None:
    held_out = autocoa.filter(pl.col("split") != "train").unique("question", maintain_order=True)
    found = NearQuestions(held_out["question"].to_list(), held_out["dataset"].to_list())
    train = autocoa.filter(pl.col("split") == "train")["question"].to_list()
    near_ones = [question for question in train if found.nearest(question)]
    print(f"\n{len(near_ones)} of {len(train):,} train questions; limits {found.min_similarity}")
    assert len(train) > 6000
    assert len(near_ones) <= 6
