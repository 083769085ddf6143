"""Push trajectories, pairs and disputed grades to Argilla, for people to review.

    coa review push                      # what annotate.push in params.yaml says
    coa review push num_items=20 "kinds=[trajectory,pair]"
    coa review push round=2              # what the first round's reviewers disagree on

Pushing again adds what is new and brings the rest up to date. It never touches a response, and a
text that has changed is another record. The items go to the server of annotate.serve, or to the
deployment in ARGILLA_API_URL (annotate.deployment). Two pushes to one workspace at once would add
the same records twice, so the second waits for the first.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from filelock import FileLock, Timeout

from annotate.deployment import Deployment, access
from annotate.environment import cache_folder
from annotate.items import Item, chosen_items
from annotate.settings import AnnotateParams
from coa.errors import CoaError, ServiceError, writing_error
from coa.records.sets import AssembleParams
from coa.settings.params import Params
from coa.store.reviews import ReviewKind


def main(arguments: Sequence[str]) -> str:
    """Push each kind, and return the summary line."""
    params = Params.load("annotate.push", arguments)
    annotate = params.section(AnnotateParams, "annotate")
    kinds = kinds_of_run(annotate.push.kinds, params.section(AssembleParams, "assemble"))
    lines = []
    with one_push(access(annotate).url, annotate.workspace), Deployment(annotate) as deployment:
        for kind in kinds:
            lines.append(push(kind, deployment, chosen_items(kind, annotate)))
    for kind in annotate.push.kinds:
        if kind not in kinds:
            lines.append(f"{kind}: none, because the run makes no pairs (assemble.num_cot_a: 0)")
    return f"{'; '.join(lines)}; review them at {access(annotate).url}"


def push(kind: ReviewKind, deployment: Deployment, items: Iterator[Item]) -> str:
    """Push the items of a kind, and say what was done; no empty data set is left behind."""
    first = next(items, None)
    if first is None:
        return f"{kind}: nothing to review"
    data_set, is_new = deployment.open_data_set(kind)
    try:
        added, updated = deployment.upsert(data_set, chain([first], items))
    except CoaError:
        if is_new:
            deployment.remove_empty(data_set)
        raise
    return f"{data_set.name}: {added:,} new, {updated:,} brought up to date"


def kinds_of_run(wanted: Sequence[ReviewKind], sizes: AssembleParams) -> list[ReviewKind]:
    """List the kinds of items that the run has; pairs of an earlier run are not reviewed."""
    return [kind for kind in wanted if sizes.makes_pairs or kind is not ReviewKind.PAIR]


@contextmanager
def one_push(url: str, workspace: str, *, wait_seconds: float = 600.0) -> Iterator[None]:
    """Hold a lock, so that other pushes of this user to the same workspace wait.

    The lock ends with its process.

    Raises:
        ServiceError: another push takes longer than `wait_seconds`.
        OutputError: the lock cannot be written.
    """
    digest = hashlib.sha256(f"{url.rstrip('/')}\n{workspace}".encode()).hexdigest()[:16]
    path = cache_folder() / f"push-{digest}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another push to {workspace} is going on; waiting for it", file=sys.stderr)
            lock.acquire(timeout=wait_seconds)
    except Timeout:
        raise ServiceError(
            "another push is going on",
            where=url,
            got=f"it holds {path}",
            fix="wait for it or stop it, then run the same command again",
        ) from None
    except OSError as error:
        raise writing_error(path, error) from error
    try:
        yield
    finally:
        lock.release()


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
