"""Check what is about to be published, and name every reason why it must not be.

All reasons are found at once, and each of them has a name. A reason can be waived by its name
(`publish.allow`), never all of them together; the published card names those that were waived.
To add a reason, write a value of `Reason`, what holds without it (`MUST_HOLD`), a function that
gives `Refusal`s, and a line in `check_sets`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from coa.doctor.recorded_authors import mask_fault
from coa.errors import InputError, OutputError, unknown_name
from coa.policy.scripted import is_scripted
from coa.questions.evaluation_questions import EvaluationQuestions, read_evaluation
from coa.records.exclusions import ExclusionReason
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Step
from coa.store import tables
from coa.store.files import EVALUATION_SETS, EXCLUDED, QUESTIONS
from coa.store.shipped import ROOT
from data_cards import provenance
from data_cards.cards import licences
from data_cards.cards.card import SetCard
from data_cards.cards.reviews import num_reviewed
from data_cards.catalogue import SPLITS, SetName
from data_cards.facts import collect, facts
from data_cards.formats.published_rows import (
    Record,
    flat_fault,
    flat_own_text,
    read_published,
    read_records,
)
from data_cards.provenance import shown
from data_cards.publishing.private_text import find_private
from data_cards.settings import PublishParams


class Reason(StrEnum):
    """A reason why something is not published."""

    NO_SET = "no_set"
    EVALUATION_OVERLAP = "evaluation_overlap"
    NO_EVALUATION_SET = "no_evaluation_set"
    PRIVATE_TEXT = "private_text"
    LICENCE = "licence"
    SCRIPTED_TEACHER = "scripted_teacher"
    UNCOMMITTED_CODE = "uncommitted_code"
    STALE_LOCK = "stale_lock"
    CARD_OUT_OF_DATE = "card_out_of_date"
    LOSS_MASK = "loss_mask"
    REVIEWS_MISSING = "reviews_missing"


MUST_HOLD = {
    Reason.NO_SET: "there is a set with rows",
    Reason.EVALUATION_OVERLAP: (
        "no row has a question, or an edited copy of one, of the evaluation sets screened"
    ),
    Reason.NO_EVALUATION_SET: "there was an evaluation set to compare the rows with",
    Reason.PRIVATE_TEXT: "the policy wrote no e-mail address, phone number or key",
    Reason.LICENCE: "the licences of all sources are known and go together",
    Reason.SCRIPTED_TEACHER: "language models wrote the text",
    Reason.UNCOMMITTED_CODE: "the code is committed",
    Reason.STALE_LOCK: "dvc.lock belongs to code, settings and files",
    Reason.CARD_OUT_OF_DATE: "the cards are those of the files",
    Reason.LOSS_MASK: "loss masks cover all of the policy's text and nothing else",
    Reason.REVIEWS_MISSING: "as many rows were reviewed by people as were asked for",
}
"""What is true where a reason does not apply; a published card says it."""


class Refusal(NamedTuple):
    """One thing that stands against publishing."""

    reason: Reason
    detail: str


def read_allowed(allow: str) -> frozenset[Reason]:
    """Read the reasons that `publish.allow` names.

    Raises:
        ConfigError: a name is unknown.
    """
    names = [name.strip() for name in allow.split(",") if name.strip()]
    for name in names:
        if name not in frozenset(Reason):
            raise unknown_name("reason", name, Reason, where="publish.allow")
    return frozenset(Reason(name) for name in names)


def enforce(refusals: Sequence[Refusal], allowed: frozenset[Reason]) -> None:
    """Refuse to publish where a reason applies that is not waived.

    Raises:
        OutputError: naming every one of them.
    """
    against = [refusal for refusal in refusals if refusal.reason not in allowed]
    if against:
        lines = [f"\n    {refusal.reason}: {refusal.detail}" for refusal in against]
        fix = how_to_waive(against, allowed)
        raise OutputError("publishing is refused", got="".join(lines), fix=fix)


def how_to_waive(against: Sequence[Refusal], allowed: frozenset[Reason]) -> str:
    """Say how to publish nevertheless, with the reasons that are waived already."""
    names = ",".join(dict.fromkeys([*sorted(allowed), *(one.reason for one in against)]))
    return f"mend it, or waive by name, which the card will say: allow={names}"


def check_sets(
    cards: Sequence[SetCard],
    stale_cards: Sequence[str],
    settings: Mapping[str, Any],
    params: PublishParams,
    known_licences: Mapping[str, str],
    published: Path,
) -> list[Refusal]:
    """Find everything that stands against publishing the sets.

    `cards` are rendered from the files, and `stale_cards` are files under data/render/ that differ
    from them; `settings` are the sections of params.yaml that shape a set.
    """
    names = [card.info.name for card in cards]
    models: list[str] = []
    conflicts: list[str] = []
    for card in cards:
        models += [model.value for model in card.writers.models]
        models += [one.model for one in card.writers.imported]
        conflicts += licences.conflicts(card.writers.sources, known_licences)
    found: list[Refusal] = []
    if not names:
        found.append(Refusal(Reason.NO_SET, "no set was built: the front card says why"))
    found += evaluation_refusals(names, settings.get("screen", {}))
    found += row_refusals(names, params.phone_region, published)
    found += [Refusal(Reason.LICENCE, line) for line in dict.fromkeys(conflicts)]
    scripted = sorted({model for model in models if is_scripted(model)})
    if scripted:
        found.append(Refusal(Reason.SCRIPTED_TEACHER, f"{shown(scripted)} is a program"))
    found += tree_refusals("render")
    found += review_refusals(names, params.required_reviews)
    if stale_cards:
        stale = f"{shown(stale_cards)}: render again (dvc repro render)"
        found.append(Refusal(Reason.CARD_OUT_OF_DATE, stale))
    return found


def tree_refusals(stage: str, tool: Path = ROOT) -> list[Refusal]:
    """Find what stands against the working tree.

    That is code that is not committed, and a dvc.lock that does not belong to the files.
    """
    found = []
    code = provenance.code_state(tool)
    if not code.commit:
        no_commit = "the folder is in no git repository with a commit"
        found.append(Refusal(Reason.UNCOMMITTED_CODE, no_commit))
    elif code.changed:
        found.append(Refusal(Reason.UNCOMMITTED_CODE, shown(code.changed)))
    try:
        stale = provenance.stale_stages(stage) if stage else ()
    except InputError as error:
        found.append(Refusal(Reason.STALE_LOCK, f"{error.what}: {error.details['got']}"))
        return found
    if stale:
        found.append(Refusal(Reason.STALE_LOCK, f"{shown(stale)}: dvc repro {stage}"))
    return found


_NOTHING_COMPARED = (
    "the rows were compared with no evaluation question: add validation or test questions to "
    "questions.files, or name a file in screen.evaluation, then run `dvc repro`"
)


def evaluation_refusals(names: Sequence[SetName], screen: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield a refusal for each set with rows that touch an evaluation set.

    What the screen found may not be published; only it compares what the policy wrote. Its file is
    not taken on trust alone: the question of every row is compared with every evaluation question
    again. Where there is no evaluation set, that is a refusal of its own.
    """
    for path in (EXCLUDED, EVALUATION_SETS):
        if not path.exists():
            detail = f"the rows were never screened: {path} is missing"
            yield Refusal(Reason.EVALUATION_OVERLAP, detail)
            return
    more = Path(screen.get("evaluation", QUESTIONS))
    columns = screen.get("evaluation_columns", {})
    questions = EvaluationQuestions(read_evaluation(QUESTIONS, more, columns))
    compared = collect(tables.scan(EVALUATION_SETS, ["num_questions"]))["num_questions"]
    if not compared.sum() or not len(questions):
        yield Refusal(Reason.NO_EVALUATION_SET, _NOTHING_COMPARED)
    excluded = tables.scan(EXCLUDED, ["row_id", "reason", "detail"])
    touched = excluded.filter(pl.col("reason") != ExclusionReason.NEAR_DUPLICATE)
    for name in names:
        rows = facts(name).select("row_id").join(touched, on="row_id", how="inner")
        screened = collect(rows.sort("row_id").select("row_id", "detail"))
        found = [f"{row_id} {detail}" for row_id, detail in screened.iter_rows()]
        lines = list(dict.fromkeys((*found, *_asked(name, questions))))
        if lines:
            yield Refusal(Reason.EVALUATION_OVERLAP, f"{name}: {_examples(lines)}")


def _asked(name: SetName, questions: EvaluationQuestions) -> Iterator[str]:
    """Name the rows of a set that ask, or nearly ask, an evaluation question."""
    for split in SPLITS:
        for record in read_records(name, split):
            row_id, question, _ = _parts_of(record)
            equal = questions.equal(question)
            near = None if equal else questions.near(question)
            if equal:
                yield f"{row_id} asks a question of {equal.set_name}"
            elif near:
                yield f"{row_id} nearly asks a question of {near.question.set_name}"


def row_refusals(names: Iterable[SetName], phone_region: str, published: Path) -> Iterator[Refusal]:
    """Yield refusals for sets whose rows hold private text or would get a wrong loss mask.

    Only what the policy wrote is looked at for private text, in the record and in the columns that
    trainers read. Each published row is compared with the row here that it was written from.
    """
    for name in names:
        private = []
        faults = []
        for row_id, own, fault in _checked_rows(name, published):
            for found in find_private(own, phone_region):
                private.append(f"{row_id} {found.kind} {found.shown}")
            if fault:
                faults.append(f"{row_id} {fault}")
        if private:
            yield Refusal(Reason.PRIVATE_TEXT, f"{name}: {_examples(private)}")
        if faults:
            yield Refusal(Reason.LOSS_MASK, f"{name}: {_examples(faults)}")


def _checked_rows(name: SetName, published: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the id of each row of a set, the policy's text in it, and what its masks get wrong."""
    for split in SPLITS:
        records = read_records(name, split)
        rows = read_published(name, split, published)
        for record, row in zip(records, rows, strict=True):
            fault = "" if row.record == record else "the published row is not the one here"
            fault = fault or flat_fault(row)
            row_id, _, steps = _parts_of(record)
            own = [step.text for step in steps if step.author is Author.POLICY]
            if not isinstance(record, Question):
                own.append(flat_own_text(row))
                fault = mask_fault(record) or fault
            yield row_id, "\n".join(own), fault


def _parts_of(record: Record) -> tuple[str, str, Sequence[Step]]:
    """Return the id of a row, its question and all its steps."""
    if isinstance(record, Question):
        return record.question_id, record.question, ()
    if isinstance(record, PreferencePair):
        steps = (*record.prefix, *record.chosen, *record.rejected)
        return record.pair_id, record.question, steps
    trajectory = record.trajectory
    return trajectory.trajectory_id, trajectory.question, trajectory.steps


def _examples(lines: Sequence[str]) -> str:
    plural = "s" if len(lines) > 1 else ""
    return f"{len(lines):,} row{plural}: {'; '.join(lines[:3])}"


def review_refusals(names: Iterable[SetName], required: int) -> Iterator[Refusal]:
    """Yield a refusal for each set of which people have reviewed too few rows."""
    if not required:
        return
    for name in names:
        if name is SetName.RL:
            continue
        done = num_reviewed(name)
        if done < required:
            detail = f"{name}: {done:,} rows reviewed of {required:,} required"
            yield Refusal(Reason.REVIEWS_MISSING, detail)
