"""Trajectories, pairs and disputed grades to Argilla, for people to review.

    python -m annotate.push                                  # what annotate.push in params.yaml says
    python -m annotate.push num_items=20 "kinds=[trajectory,pair]"
    python -m annotate.push round=2                          # what the reviewers of the first round disagree on

Pushing again adds what is new and brings the rest up to date; it never touches a response, and a text that has changed
is another record. Goes to the server of annotate.serve, or to the deployment in ARGILLA_API_URL (annotate.deployment).
"""

import sys
from collections.abc import Sequence

from annotate.deployment import Deployment
from annotate.items import chosen_items
from annotate.settings import AnnotateParams
from coa.params import Params


def main(arguments: Sequence[str]) -> str:
    """Push each kind; the summary line is returned."""
    annotate = Params.load("annotate.push", arguments).section(AnnotateParams, "annotate")
    told = []
    with Deployment(annotate) as deployment:
        for kind in annotate.push.kinds:
            data_set = deployment.open_data_set(kind)
            added, updated = deployment.upsert(data_set, chosen_items(kind, annotate))
            told.append(f"{data_set.name}: {added:,} new, {updated:,} brought up to date")
    return "; ".join(told)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
