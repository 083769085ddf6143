"""Keep the account of a training's judge: its calls are recorded, counted and capped.

A training that goes on, or an answer that comes twice, is not paid again. `python -m coa.costs`
shows the journal as `judge-{name}`; on several GPUs each process has one of its own.
"""

import os
from contextlib import ExitStack
from typing import Self

from coa.journal import Journal
from coa.journaled import JournaledPolicy
from coa.judging.judge import Judge, JudgeParams, no_judge, open_judging_policy
from coa.ledger import Ledger
from coa.params import Params
from coa.policy import Policy
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.prices import CostParams
from coa.runtime import JOURNALS


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
