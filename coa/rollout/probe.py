"""Probe a server before the first call that a run must make, and keep the replies.

The replies are in the journal of the stage that asked (`coa/policy/probe.py` words the questions),
so a run that is resumed does not ask again, and one whose calls are all recorded asks nothing.
"""

import asyncio
import sys
from collections.abc import Mapping
from itertools import count

from coa.errors import ConfigError
from coa.policy import Completion, Request, RequestError
from coa.policy.completions import CompletionsPolicy
from coa.policy.probe import PARSER_ADVICE
from coa.spending.journaled import RecordedCalls, most_of
from coa.spending.ledger import Ledger
from coa.store.journal import CallKind, Journal, request_key


class Probe:
    """The probe of one run."""

    def __init__(self, policy: CompletionsPolicy, journal: Journal, ledger: Ledger) -> None:
        self.seen: Mapping[str, str] = {}
        """What the server was seen to do; empty before a call was needed."""
        self.is_over = False
        """Whether what the server does is known."""
        self.ledger = ledger
        self._policy = policy
        self._calls = RecordedCalls(journal, ledger, Completion, CallKind.POLICY, policy.name)
        self._lock = asyncio.Lock()
        self._is_unrecorded = False

    async def look(self, like: Request, *, may_ask: bool) -> None:
        """Find out what the server does, unless that is known.

        `like` is a request of the run, with its tools and its sampling settings. Unless it
        `may_ask`, only recorded replies are read.

        Raises:
            ConfigError: The server contradicts the settings, or refuses a question.
            ServiceError: It cannot be reached.
            CapError: A question would be one call too many.
        """
        async with self._lock:
            if self.is_over or (self._is_unrecorded and not may_ask):
                return
            questions = self._policy.probe_questions(like)
            for attempt in count():
                keys = []
                for question in questions:
                    sent = self._policy.probe_key(question)
                    name = self._policy.name
                    keys.append(request_key(CallKind.POLICY, name, "probe", attempt, *sent))
                num_asked = sum(self._calls.find(key).reply is None for key in keys)
                if num_asked and not may_ask:
                    self._is_unrecorded = True
                    return
                asked = [self._ask(*pair) for pair in zip(questions, keys, strict=True)]
                try:
                    self.seen = self._policy.look_at_probe(await asyncio.gather(*asked))
                except ConfigError:
                    # A server that once failed the probe may have been set right since.
                    if num_asked:
                        raise
                    continue
                self.is_over = True
                if num_asked:
                    self._tell(num_asked)
                return

    async def _ask(self, question: Request, key: str) -> Completion:
        try:
            return await self._calls.once(
                key,
                lambda: self._policy.complete(question),
                lambda: most_of(self._policy, question, self.ledger),
            )
        except RequestError as error:
            raise ConfigError(
                "the server refuses a question, as every such request of this run",
                where=self._policy.where,
                expected="a reply",
                got=str(error),
                fix="see what the server says; most often it does not take a field of "
                "teacher.server.extra_body or a setting of teacher.sampling, or offers no tools: "
                f"{PARSER_ADVICE}",
            ) from error

    def _tell(self, num_asked: int) -> None:
        """Print what was seen, where questions were asked."""
        questions = "1 question" if num_asked == 1 else f"{num_asked} questions"
        lines = [f"asked the server what this run relies on ({questions}):"]
        for name, text in self.seen.items():
            lines.append(f"  {name.replace('_', ' ')}: {text}")
        print("\n".join(lines), file=sys.stderr, flush=True)
