"""Pull the submitted responses from Argilla, and measure how far they agree.

    coa review pull

Writes data/reviews.parquet and data/agreement.parquet. Pulling twice gives the same file. Reviews
of records that the deployment has are taken from it, so one that was withdrawn goes; reviews of
others stay, so several deployments can fill one file. Texts come from our own data and never from
Argilla: a review is joined by its id. `dvc repro` then applies what the reviewers said
(curate.verdicts).
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

from annotate.agreement import measured
from annotate.deployment import ROUNDS, Deployment
from annotate.layouts import LAYOUTS, unshuffled
from annotate.settings import AnnotateParams
from coa.errors import ConfigError
from coa.settings.params import Params
from coa.store import tables
from coa.store.adjudication import Standing, decide_all
from coa.store.files import AGREEMENT, REVIEWS
from coa.store.reviews import (
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
"""Kind, item, version, layout and round, which identify a record of the deployment."""


def pulled(deployment: Deployment) -> Iterator[tuple[_Key, list[Review]]]:
    """Yield every record of the deployment with its reviews."""
    names = deployment.names()
    layouts = range(1, LAYOUT_VERSION + 1)
    for kind, layout, round_ in product(ReviewKind, layouts, ROUNDS):
        data_set = deployment.data_set(kind, round_, layout)
        if data_set is None:
            continue
        for record in deployment.records(data_set):
            item_id, _, version = (record["external_id"] or "").rpartition("@")
            if item_id:
                key = (kind, item_id, version, layout, round_)
                yield key, list(reviews_of(record, key, names))


def reviews_of(record: Mapping[str, Any], key: _Key, names: Mapping[str, str]) -> Iterator[Review]:
    """Yield the submitted responses of one record."""
    kind, item_id, version, layout, round_ = key
    for response in record.get("responses") or ():
        if response["status"] == "submitted":
            answers = _answers(kind, item_id, response["values"] or {})
            reviewer = names.get(response["user_id"], f"account {response['user_id'][:8]}")
            # Argilla's time is UTC without saying so.
            time = datetime.fromisoformat(response["updated_at"])
            time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
            submitted = time.isoformat(timespec="seconds").replace("+00:00", "Z")
            yield Review(item_id, kind, version, layout, round_, reviewer, submitted, answers)


def _answers(kind: ReviewKind, item_id: str, values: Mapping[str, Any]) -> tuple[Answer, ...]:
    """List the answers in the order of the questions; the sides of a pair are named by role."""
    answers = []
    for question in LAYOUTS[kind].questions:
        given = values.get(question.name, {}).get("value")
        if not isinstance(given, list):
            given = [] if given in (None, "") else [given]
        texts = [str(item)[:_MAX_TEXT_CHARS] for item in given]
        if question.name is ReviewQuestion.PREFERENCE:
            texts = [unshuffled(item_id, text) for text in texts]
        if texts:
            answers.append(Answer(question.name, tuple(texts)))
    return tuple(answers)


def merged(old: Sequence[Review], new: Mapping[_Key, Sequence[Review]]) -> list[Review]:
    """Return the old reviews of records that the deployment lacks, then the deployment's."""
    found = []
    for review in old:
        key = (review.kind, review.item_id, review.version, review.layout, review.round)
        if key not in new:
            found.append(review)
    for reviews in new.values():
        found += reviews
    return found


def main(arguments: Sequence[str]) -> str:
    """Pull all kinds, and return the summary line."""
    annotate = Params.load("annotate", arguments).section(AnnotateParams)
    old = read_reviews() if REVIEWS.exists() else []
    with Deployment(annotate) as deployment:
        new = dict(pulled(deployment))
    if not new and not old:
        raise ConfigError(
            "there is nothing to pull",
            expected="records of annotate.push",
            fix="coa review push",
        )
    reviews = merged(old, new)
    write_reviews(reviews)
    tables.write_table(AGREEMENT, Agreement, measured(reviews))
    decisions = decide_all(reviews, annotate.adjudication)
    num_by_standing = Counter(decision.standing for decision in decisions)
    items = ", ".join(f"{num_by_standing[standing]:,} {standing}" for standing in Standing)
    return f"{REVIEWS}: {len(reviews):,} reviews; items: {items}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
