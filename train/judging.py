"""Judge answers in RL: the rewards `rubric` and `judge`, and the account of what they cost.

A judge's calls are recorded, counted and capped. A training that goes on, or an answer that comes
twice, is not paid again. `coa costs` shows the journal as `judge-{name}`; on several GPUs
each process has one of its own.
"""

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

from coa.errors import ConfigError
from coa.judging.judge import Judge, JudgeParams, no_judge, open_judging_policy
from coa.policy import Policy, Request, RequestError
from coa.policy.completions import CompletionsPolicy
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import FAILED_STOPS
from coa.rollout.runtime import JOURNALS
from coa.settings.params import Params
from coa.spending.journaled import JournaledPolicy
from coa.spending.ledger import Ledger
from coa.spending.prices import CostParams
from coa.store.journal import Journal
from coa.store.shipped import find_shipped
from coa.student.settings import RubricSettings


def rubric_reward(
    rubric: RubricSettings, open_judge: Callable[[ServerSettings], Policy] | None = None
) -> Any:
    """Return TRL's function of the reward that a served judge gives.

    Args:
        rubric: how it is asked.
        open_judge: opens its policy; without it no account of its calls is kept.

    Raises:
        ConfigError: the server's settings or the rubric are wrong.
    """
    open_policy = open_judge or CompletionsPolicy
    judge = RubricJudge(rubric, open_policy(rubric.server))

    async def reward(graded: Sequence[GradedTrajectory], **_: object) -> list[float | None]:
        return await asyncio.gather(*(judge.score(row) for row in graded))

    reward.__name__ = "rubric"
    return reward


def verdict_reward(judge: Judge) -> Any:
    """Return TRL's function of the reward that follows from a judge's verdicts."""

    async def reward(graded: Sequence[GradedTrajectory], **_: object) -> list[float | None]:
        rows = await asyncio.gather(*(judge.judge(row) for row in graded))
        return [judged(row) for row in rows]

    reward.__name__ = "judge"
    return reward


def judged(row: GradedTrajectory) -> float | None:
    """Return the judge's score, or 1 for right and 0 for wrong; None where it did not tell."""
    if row.judgement is None or row.trajectory.stop_reason in FAILED_STOPS:
        return None
    if row.judgement.score is not None:
        return row.judgement.score
    is_right = row.judgement.is_right
    return None if is_right is None else float(is_right)


class RubricJudge:
    """A served model that scores answers by a rubric.

    The rubric is a prompt file with the places `{question}`, `{gold}` and `{answer}`.
    """

    _PLACE = re.compile(r"\{(question|gold|answer)\}")
    _SCORE = re.compile(r"\s*(10|[0-9])(?![0-9.])")

    def __init__(self, settings: RubricSettings, policy: Policy) -> None:
        try:
            rubric = find_shipped(settings.prompt).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the rubric {settings.prompt}", got=error) from error
        places = {"{prompt}": settings.chat_template, "{question}": rubric, "{answer}": rubric}
        missing = [place for place, text in places.items() if place not in text]
        if missing:
            raise ConfigError(
                "the rubric lacks a place", where=settings.prompt, expected=", ".join(missing)
            )
        self._prompt = settings.chat_template.replace("{prompt}", rubric)
        self._policy = policy
        self._slots = asyncio.Semaphore(settings.concurrency)

    async def score(self, row: GradedTrajectory) -> float | None:
        """Ask the judge for a score from 0 to 1.

        Returns:
            0 where there is no answer; None where the rollout failed or the judge gives no score.

        Raises:
            ServiceError: the judge cannot be reached after all retries.
        """
        if row.trajectory.stop_reason in FAILED_STOPS:
            return None
        if row.grade.prediction is None:
            return 0.0
        async with self._slots:
            try:
                reply = await self._policy.complete(self._request(row))
            except RequestError:
                return None
        found = self._SCORE.match(reply.text)
        return int(found[1]) / 10 if found else None

    def _request(self, row: GradedTrajectory) -> Request:
        texts = {
            "question": row.trajectory.question,
            "gold": "; ".join(row.gold_answers),
            "answer": row.grade.prediction or "",
        }
        # The policy is trained against this prompt: its answer stays on one line, without tags and
        # chat markers.
        harmless: dict[str, str] = {}
        for name, text in texts.items():
            harmless[name] = " ".join(protocol.neutralise(text).split())
        prompt = self._PLACE.sub(lambda place: harmless[place[1]], self._prompt)
        return Request(prompt, stop=("\n",), max_tokens=8, temperature=0.0, top_p=1.0, seed=0)


class JudgeAccount:
    """The journal and the ledger of one training's judge; a context manager.

    The journal is opened when a judge is, so a training without one leaves no file.
    """

    def __init__(self, sections: Params, name: str) -> None:
        self._sections = sections
        rank = os.environ.get("RANK", "0")
        process = "" if rank == "0" else f"-rank{rank}"
        self._path = JOURNALS / f"judge-{name}{process}.sqlite"
        self._opened = ExitStack()
        self._journal: Journal | None = None
        self.ledger: Ledger | None = None
        """What the judge costs; None where none was opened."""
        self.client: CompletionsPolicy | None = None
        """The judge's connections, which belong to the event loop that asks; `aclose` is theirs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open_judge(self, server: ServerSettings) -> Policy:
        """Return the policy of the judge behind a server.

        Raises:
            ConfigError: the server's settings are wrong, or the key is not there.
            OutputError: the journal cannot be written, or another training has it open.
        """
        self.client = CompletionsPolicy(server, place="train.rubric.server")
        self.client.require_key()
        return self._keep(self.client)

    def open_verdicts(self) -> Judge:
        """Return the judge that the section `judge` describes; an outage of it ends the training.

        Raises:
            ConfigError: it names nobody, or its settings are wrong.
            OutputError: the journal cannot be written, or another training has it open.
        """
        settings = self._sections.section(JudgeParams, "judge")
        if settings.policy is None:
            raise no_judge("the reward `judge` has a weight")
        policy = open_judging_policy(settings, self._sections)
        if isinstance(policy, CompletionsPolicy):
            self.client = policy
        return Judge(settings, self._keep(policy), self.ledger, outlives_outage=False)

    def _keep(self, policy: Policy) -> JournaledPolicy:
        """Record, count and cap the calls of a policy."""
        if self._journal is None:
            self._journal = self._opened.enter_context(Journal(self._path))
            self.ledger = Ledger(self._journal, self._sections.section(CostParams, "costs"))
        return JournaledPolicy(policy, self._journal, self.ledger)
