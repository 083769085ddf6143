"""Keep the account of a training's judge: its calls are recorded, counted and capped.

A training that goes on, or an answer that comes twice, is not paid again. `python -m coa.costs`
shows the journal as `judge-{name}`; on several GPUs each process has one of its own.
"""

import os
from contextlib import ExitStack
from typing import Self

from coa.journal import Journal
from coa.journaled import JournaledPolicy
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
        prices = self._sections.section(CostParams, "costs")
        self.client = CompletionsPolicy(server)
        self.client.require_key()
        journal = self._opened.enter_context(Journal(self._path))
        self.ledger = Ledger(journal, prices)
        return JournaledPolicy(self.client, journal, self.ledger)
