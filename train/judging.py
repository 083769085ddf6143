"""Judge answers in RL: the reward `judge`, and the account of what it costs.

A judge's calls are recorded, counted and capped, so a training that is resumed, or an answer that
comes twice, is not paid again. `coa costs` shows the journal as `judge-{name}`; on several GPUs
each process has one of its own.
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

from coa.judging.judge import Judge, JudgeParams, no_judge, open_judging_policy
from coa.policy import Policy
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import FAILED_STOPS
from coa.rollout.runtime import JOURNALS
from coa.settings.params import Params
from coa.spending.journaled import JournaledPolicy
from coa.spending.ledger import Ledger
from coa.spending.prices import CostParams
from coa.store.journal import Journal


def verdict_reward(judge: Judge) -> Any:
    """Return TRL's function of the reward that follows from a judge's verdicts."""

    async def reward(graded: Sequence[GradedTrajectory], **_: object) -> list[float | None]:
        rows = await asyncio.gather(*(judge.judge(row) for row in graded))
        return [judged(row) for row in rows]

    reward.__name__ = "judge"
    return reward


def judged(row: GradedTrajectory) -> float | None:
    """Return the judge's score, or 1 for right and 0 for wrong; None where it gave no verdict."""
    if row.judgement is None or row.trajectory.stop_reason in FAILED_STOPS:
        return None
    if row.judgement.score is not None:
        return row.judgement.score
    is_right = row.judgement.is_right
    return None if is_right is None else float(is_right)


class JudgeAccount:
    """The journal and the ledger of one training's judge; a context manager.

    The journal is opened when the judge is, so settings that are wrong leave no file.
    """

    def __init__(self, sections: Params, name: str) -> None:
        self._sections = sections
        rank = os.environ.get("RANK", "0")
        process = "" if rank == "0" else f"-rank{rank}"
        self._path = JOURNALS / f"judge-{name}{process}.sqlite"
        self._opened = ExitStack()
        self.ledger: Ledger | None = None
        """What the judge costs; None where none was opened."""
        self.policy: Policy | None = None
        """What judges; its connections belong to the event loop that asks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open_judge(self) -> Judge:
        """Return the judge that the section `judge` describes; an outage of it ends the training.

        Raises:
            ConfigError: it names nobody, or its settings are wrong.
        """
        settings = self._sections.section(JudgeParams, "judge")
        if settings.policy is None:
            raise no_judge("the reward `judge` has a weight")
        self.policy = open_judging_policy(settings, self._sections)
        journal = self._opened.enter_context(Journal(self._path))
        self.ledger = Ledger(journal, self._sections.section(CostParams, "costs"))
        kept = JournaledPolicy(self.policy, journal, self.ledger)
        return Judge(settings, kept, self.ledger, outlives_outage=False)
