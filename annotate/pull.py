"""Argilla's submitted responses to data/reviews.parquet, and how far they agree to data/agreement.parquet.

    python -m annotate.pull

Pulling twice gives the same file. Reviews of records that the deployment has are taken from it, so one that was
withdrawn goes; reviews of others stay, so several deployments can fill one file. Texts come from our own data and never
from Argilla: a review is joined by its id. `dvc repro` then applies what the reviewers said (curate.verdicts).
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from annotate.agreement import measured
from annotate.deployment import ROUNDS, Deployment
from annotate.layouts import LAYOUTS, unshuffled
from annotate.settings import AnnotateParams
from coa import tables
from coa.adjudication import Standing, decide_all
from coa.errors import ConfigError
from coa.files import AGREEMENT, REVIEWS
from coa.params import Params
from coa.reviews import (
    LAYOUT_VERSION,
    Agreement,
    Answer,
    Review,
    ReviewKind,
    ReviewQuestion,
    read_reviews,
    write_reviews,
)

_MAX_TEXT_CHARS = 2_000
_Key = tuple[ReviewKind, str, str, int, int]
"""Kind, item, version, layout, round: what a record of the deployment stands for."""


def pulled(deployment: Deployment) -> Iterator[tuple[_Key, list[Review]]]:
    """Every record of the deployment with its reviews."""
    names = deployment.names()
    for kind in ReviewKind:
        for layout in range(1, LAYOUT_VERSION + 1):
            for round_ in ROUNDS:
                data_set = deployment.data_set(kind, round_, layout)
                for record in deployment.records(data_set) if data_set is not None else ():
                    item_id, _, version = (record["external_id"] or "").rpartition("@")
                    if item_id:
                        key = (kind, item_id, version, layout, round_)
                        yield key, list(reviews_of(record, key, names))


def reviews_of(record: Mapping[str, Any], key: _Key, names: Mapping[str, str]) -> Iterator[Review]:
    """The submitted responses of one record."""
    kind, item_id, version, layout, round_ = key
    for response in record.get("responses") or ():
        if response["status"] == "submitted":
            answers = tuple(_answers(kind, item_id, response["values"] or {}))
            reviewer = names.get(response["user_id"], f"account {response['user_id'][:8]}")
            submitted = _time(response["updated_at"])
            yield Review(item_id, kind, version, layout, round_, reviewer, submitted, answers)


def _answers(kind: ReviewKind, item_id: str, values: Mapping[str, Any]) -> Iterator[Answer]:
    """What was answered, in the order of the questions; the sides of a pair by their roles."""
    for question in LAYOUTS[kind].questions:
        value = values.get(question.name, {}).get("value")
        given = value if isinstance(value, list) else [] if value in (None, "") else [value]
        texts = [str(item)[:_MAX_TEXT_CHARS] for item in given]
        if question.name is ReviewQuestion.PREFERENCE:
            texts = [unshuffled(item_id, text) for text in texts]
        if texts:
            yield Answer(question.name, tuple(texts))


def _time(text: str) -> str:
    """Argilla's time, which is UTC without saying so, in one form."""
    found = datetime.fromisoformat(text)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat(timespec="seconds").replace("+00:00", "Z")


def merged(old: Sequence[Review], new: Mapping[_Key, Sequence[Review]]) -> list[Review]:
    """The reviews of the deployment's records, and the old ones of all others."""
    stay = [it for it in old if (it.kind, it.item_id, it.version, it.layout, it.round) not in new]
    return [*stay, *(review for reviews in new.values() for review in reviews)]


def main(arguments: Sequence[str]) -> str:
    """Pull all kinds; the summary line is returned."""
    annotate = Params.load("annotate", arguments).section(AnnotateParams)
    old = read_reviews() if REVIEWS.exists() else []
    with Deployment(annotate) as deployment:
        new = dict(pulled(deployment))
    if not new and not old:
        raise ConfigError(
            "there is nothing to pull",
            expected="records of annotate.push",
            fix="python -m annotate.push",
        )
    reviews = merged(old, new)
    write_reviews(reviews)
    tables.write_table(AGREEMENT, Agreement, measured(reviews))
    standing = Counter(decision.standing for decision in decide_all(reviews, annotate.adjudication))
    told = ", ".join(f"{standing[it]:,} {it}" for it in Standing)
    return f"{REVIEWS}: {len(reviews):,} reviews; items: {told}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
