"""Read questions from local files into the project's own table, and compare them with each other.

    coa questions

Reads parquet, JSON lines or CSV, one file of `questions.files` after another. The rows of a file
are those of a public data set as published (`format`, synth/question_formats.py; synth/fetch.py
downloads them), or your own, for which `columns` names the columns. Writes data/questions.parquet
and data/questions_dropped.parquet.

The files are read twice. The first time finds out which row keeps an id, what the validation and
test questions ask, and which train questions become validation questions. The second time yields
the questions. Memory holds ids, places and hashes, never a question.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from coa.errors import ConfigError, InputError
from coa.questions.near_questions import question_key
from coa.records.question import Question
from coa.records.ranking import seeded_rank
from coa.settings.outputs import check_inputs
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import QUESTIONS
from coa.store.metrics import write_metrics
from synth.question_file import (
    SPLITS,
    DroppedQuestion,
    LeftOut,
    QuestionFile,
    no_question,
    read_file,
)
from synth.question_formats import RefusalReason

OUT = QUESTIONS
DROPPED = Path("data/questions_dropped.parquet")


@dataclass(frozen=True, slots=True)
class QuestionParams:
    """The files that questions are read from, each with its own form, split and source."""

    files: tuple[QuestionFile, ...] = ()
    """One file after another, into one table. Each is an entry with `path` and, where needed,
    format, columns, split, source, names_source, answer_separator, keeps, limit, num_validation
    (docs/guide.md)."""
    drops_bad_rows: bool = False
    """Write rows that give no question, that repeat an id, or that are train questions with the
    words of a validation or test question to data/questions_dropped.parquet, with the reason, and
    continue."""
    seed: int = 0
    """Chooses the questions that are set aside for validation."""


class Place(NamedTuple):
    """Where a question is."""

    entry: int
    """The file's position in `questions.files`, from 1."""
    where: str
    split: str


class Candidate(NamedTuple):
    """A train question that may be set aside for validation."""

    question_id: str
    place: Place
    words: bytes


@dataclass(frozen=True, slots=True)
class Survey:
    """What the questions of all files are compared with."""

    owners: dict[str, Place] = field(default_factory=dict)
    """For each id the row that keeps it: the first one, unless only a later one is for validation
    or test."""
    evaluation: dict[bytes, str] = field(default_factory=dict)
    """The words of each validation and test question, as a hash, and which question it is."""
    set_aside: set[str] = field(default_factory=set)
    """Ids of the train questions that become validation questions."""


def read_questions(params: QuestionParams) -> Iterator[Question]:
    """Yield the questions of all files in order, without those left out or dropped.

    Raises:
        InputError: see `read_outcomes`.
        ConfigError: see `read_outcomes`.
    """
    return (outcome for outcome in read_outcomes(params) if isinstance(outcome, Question))


def read_outcomes(params: QuestionParams) -> Iterator[Question | LeftOut | DroppedQuestion]:
    """Yield the outcome of each row of each file, in order.

    Raises:
        InputError: a file is missing or broken, no row of it gives a question, or it lacks a
            source that should be kept. Unless bad rows are dropped, also if a row gives no
            question, an id occurs twice, or a train question asks what a validation or test
            question asks; the error names file, row and reason.
        ConfigError: no file is named, a file's ending is not known, both a format and columns are
            set, or more questions shall be set aside than there are.
    """
    if not params.files:
        fix = "name one: questions.files in params.yaml, `- {path: my_questions.jsonl}`"
        raise ConfigError("questions.files names no file", fix=fix)
    survey = _survey(params)
    for entry, file in enumerate(params.files, start=1):
        yield from _settled(file, entry, survey, drops_bad_rows=params.drops_bad_rows)


def _survey(params: QuestionParams) -> Survey:
    """Read all files for the first time."""
    survey = Survey()
    candidates: list[list[Candidate]] = []
    for entry, file in enumerate(params.files, start=1):
        found = _survey_file(file, entry, survey, drops_bad_rows=params.drops_bad_rows)
        candidates.append(found)
    for file, found in zip(params.files, candidates, strict=True):
        _set_aside(file, found, survey, params.seed)
    return survey


def _survey_file(
    file: QuestionFile, entry: int, survey: Survey, *, drops_bad_rows: bool
) -> list[Candidate]:
    """Add one file to the survey; return its train questions if some are to be set aside."""
    candidates: list[Candidate] = []
    num_kept = 0
    for where, question in read_file(file, drops_bad_rows=drops_bad_rows):
        if not isinstance(question, Question):
            continue
        place = Place(entry, where, question.split)
        owner = survey.owners.setdefault(question.question_id, place)
        if owner != place:
            if not drops_bad_rows:
                raise _repeated(question, place, owner)
            if question.split != "train":
                # Its row may be dropped for its id; still no train question may ask the same.
                _add_evaluation(survey, words_of(question), question.question_id, place)
            if question.split == "train" or owner.split != "train":
                continue
            # Dropping the train question loses nothing that is evaluated.
            survey.owners[question.question_id] = place
        num_kept += 1
        if question.split != "train":
            _add_evaluation(survey, words_of(question), question.question_id, place)
        elif file.num_validation:
            candidates.append(Candidate(question.question_id, place, words_of(question)))
        if num_kept == file.num_questions:
            break
    return candidates


def words_of(question: Question) -> bytes:
    """Hash what a question asks, as the screen compares it; empty where it has no words."""
    key = question_key(question.question)
    return hashlib.sha256(key.encode()).digest()[:16] if key else b""


def _add_evaluation(survey: Survey, words: bytes, question_id: str, place: Place) -> None:
    if words:
        name = f"the {place.split} question {question_id!r} ({place.where})"
        survey.evaluation.setdefault(words, name)


def _set_aside(
    file: QuestionFile, candidates: Sequence[Candidate], survey: Survey, seed: int
) -> None:
    """Choose the train questions of a file that become validation questions."""
    free: list[Candidate] = []
    for candidate in candidates:
        is_kept = survey.owners[candidate.question_id] == candidate.place
        if is_kept and candidate.words not in survey.evaluation:
            free.append(candidate)
    if file.num_validation > len(free):
        raise ConfigError(
            "more questions shall be set aside for validation than there are",
            where=f"num_validation of {file.path} in questions.files",
            expected=f"at most {len(free):,}, its train questions that are not evaluated anyway",
            got=f"{file.num_validation:,}",
            fix="lower num_validation, or check the file's split and limit",
        )
    free.sort(key=lambda candidate: seeded_rank(candidate.question_id, seed, "validation"))
    for question_id, place, words in free[: file.num_validation]:
        survey.set_aside.add(question_id)
        _add_evaluation(survey, words, question_id, place._replace(split="validation"))


def _settled(
    file: QuestionFile, entry: int, survey: Survey, *, drops_bad_rows: bool
) -> Iterator[Question | LeftOut | DroppedQuestion]:
    """Read one file for the second time and yield the outcome of each row."""
    first_dropped: DroppedQuestion | None = None
    num_kept = 0
    for where, outcome in read_file(file, drops_bad_rows=drops_bad_rows):
        if isinstance(outcome, Question):
            if outcome.split != "train" and outcome.question_id not in survey.owners:
                # Only train questions replace dropped ones: nothing was compared with this one.
                continue
            place = Place(entry, where, outcome.split)
            outcome = _settle(outcome, place, survey, drops_bad_rows=drops_bad_rows)
        if isinstance(outcome, DroppedQuestion):
            first_dropped = first_dropped or outcome
        yield outcome
        num_kept += isinstance(outcome, Question)
        if file.num_questions and num_kept == file.num_questions:
            return
    if not num_kept:
        raise no_question(file, first_dropped)


def _settle(
    question: Question, place: Place, survey: Survey, *, drops_bad_rows: bool
) -> Question | DroppedQuestion:
    """Keep, set aside or drop a question."""
    question_id = question.question_id
    if question.split == "train" and question_id not in survey.set_aside:
        same = survey.evaluation.get(words_of(question))
        if same:
            detail = f"{same} asks the same"
            if not drops_bad_rows:
                raise InputError(
                    "a train question asks what a validation or test question asks",
                    where=place.where,
                    got=f"question id {question_id!r}; {detail}",
                    fix=(
                        "take one of them out of its file, "
                        "or leave such train questions out: questions.drops_bad_rows"
                    ),
                )
            reason = RefusalReason.EVALUATION_QUESTION
            return DroppedQuestion(place.where, question_id, reason, detail)
    # Only a train question that replaces a dropped one is new here.
    owner = survey.owners.setdefault(question_id, place)
    if owner != place:
        error = _repeated(question, place, owner)
        detail = f"{error.what}; {error.details['got']}"
        return DroppedQuestion(place.where, question_id, RefusalReason.REPEATED_ID, detail)
    if question_id in survey.set_aside:
        return replace(question, split="validation")
    return question


def _repeated(question: Question, place: Place, owner: Place) -> InputError:
    return InputError(
        f"the question id {question.question_id!r} occurs twice",
        where=place.where,
        got=f"the other one: {owner.where}, entry {owner.entry} of questions.files",
        fix=(
            "give one of them another id, or leave one out: questions.drops_bad_rows keeps the "
            "one for validation or test, else the first"
        ),
    )


def main(arguments: Sequence[str]) -> str:
    """Read, check and write the questions; return the summary line."""
    settings = Params.load("questions", arguments)
    params = settings.section(QuestionParams)
    is_trial = check_inputs(settings, OUT.as_posix(), "files")
    counts = dict.fromkeys(SPLITS, 0)
    reasons = Counter[RefusalReason]()
    left_out = 0
    with (
        tables.TableWriter(OUT, Question, is_trial=is_trial) as table,
        tables.TableWriter(DROPPED, DroppedQuestion) as dropped,
    ):
        for outcome in read_outcomes(params):
            if isinstance(outcome, Question):
                table.write(outcome)
                counts[outcome.split] += 1
            elif isinstance(outcome, DroppedQuestion):
                dropped.write(outcome)
                reasons[outcome.reason] += 1
            else:
                left_out += 1
    set_aside = sum(file.num_validation for file in params.files)
    figures = {
        **counts,
        "set_aside_for_validation": set_aside,
        "of_other_sources": left_out,
        "dropped": {str(reason): reasons[reason] for reason in RefusalReason},
    }
    write_metrics("questions", figures)
    shown = [f"{count:,} {split}" for split, count in counts.items()]
    if set_aside:
        shown.append(f"{set_aside:,} of the validation questions taken from train")
    if left_out:
        shown.append(f"{left_out:,} of other sources left out")
    shown += [f"{count:,} dropped: {reason}" for reason, count in reasons.items()]
    origin = params.files[0].path if len(params.files) == 1 else f"{len(params.files)} files"
    return f"{OUT}: {table.num_rows:,} questions from {origin} ({', '.join(shown)})"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
