"""Probe a server before the first call that a run must make, and keep the replies.

A probe is made once for a server and its settings: its replies are in the journal of the stage that
asked, and the other stages read them there. A run whose calls are all recorded asks nothing.
"""

import asyncio
import sys
from collections.abc import Mapping
from itertools import count

import msgspec

from coa.errors import InputError
from coa.journal import CallKind, Journal, JournalReader, request_key
from coa.journaled import RecordedCalls
from coa.ledger import Ledger
from coa.policy import Request
from coa.policy.completions import CompletionsPolicy
from coa.policy.probe.run import ProbeReply


class _NotRecorded(Exception):
    """A question was not asked yet, and must not be asked now."""


class Probe:
    """The probe of one run."""

    def __init__(self, policy: CompletionsPolicy, journal: Journal, ledger: Ledger) -> None:
        self.seen: Mapping[str, str] = {}
        """What the server was seen to do; empty before a call was needed."""
        self.is_over = False
        """Whether what the server does is known."""
        self.ledger = ledger
        self._policy = policy
        self._journal = journal
        self._calls = RecordedCalls(journal, ledger, ProbeReply, CallKind.POLICY, policy.name)
        self._lock = asyncio.Lock()
        self._was_recalled = False

    async def look(self, like: Request, *, may_ask: bool) -> None:
        """Find out what the server does, unless that is known.

        Args:
            like: A request of the run.
            may_ask: Whether the server may be asked; else only recorded replies are read.

        Raises:
            ConfigError: The server contradicts the settings.
            ServiceError: It cannot be reached.
            CapError: A question would be one call too many.
        """
        async with self._lock:
            if self.is_over or (self._was_recalled and not may_ask):
                return
            self._was_recalled = True
            for attempt in count():
                asking = _Asking(self._policy, self._journal, self._calls, attempt, may_ask)
                try:
                    findings = await self._policy.probe(like, asking.ask)
                except _NotRecorded:
                    return
                if findings.contradiction is None:
                    self.seen = {str(name): text for name, text in findings.seen.items()}
                    self.is_over = True
                    asking.count_recorded()
                    if asking.num_made:
                        self._tell(asking)
                    return
                # A server that once failed the probe may have been set right since.
                if asking.num_made:
                    raise findings.contradiction

    def _tell(self, asking: "_Asking") -> None:
        """Print what was seen, where questions were asked."""
        questions = "1 question" if asking.num_made == 1 else f"{asking.num_made} questions"
        asked = f"{questions}, {asking.num_tokens:,} tokens"
        lines = [f"asked the server what this run relies on ({asked}):"]
        for name, text in self.seen.items():
            lines.append(f"  {name.replace('_', ' ')}: {text}")
        print("\n".join(lines), file=sys.stderr, flush=True)


class _Asking:
    """One attempt of a probe: the questions that it asks."""

    def __init__(
        self,
        policy: CompletionsPolicy,
        journal: Journal,
        calls: RecordedCalls[ProbeReply],
        attempt: int,
        may_ask: bool,
    ) -> None:
        self.num_made = 0
        """Questions that no journal answered."""
        self.num_tokens = 0
        """Tokens that they and their answers have."""
        self._recorded: dict[str, ProbeReply] = {}
        """Replies of journals, by key. They count once the whole probe is there: one that was
        interrupted is read twice."""
        self._policy = policy
        self._journal = journal
        self._calls = calls
        self._attempt = attempt
        self._may_ask = may_ask

    async def ask(self, request: Request) -> ProbeReply:
        """Return the recorded reply to a question, or ask it."""
        sent = self._policy.probe_key(request)
        key = request_key(CallKind.POLICY, self._policy.name, "probe", self._attempt, *sent)
        found = self._find(key)
        if found is not None:
            self._recorded[key] = found
            return found
        if not self._may_ask:
            raise _NotRecorded
        reply = await self._calls.once(key, lambda: self._policy.answer_probe(request))
        self.num_made += 1
        self.num_tokens += reply.charged.context_tokens + reply.charged.written_tokens
        return reply

    def count_recorded(self) -> None:
        """Count the recorded replies as used, as `RecordedCalls.once` counts the others."""
        for key, reply in self._recorded.items():
            self._calls.find(key)  # counted as replayed where it is this stage's own
            self._calls.count_used(key, reply)

    def _find(self, key: str) -> ProbeReply | None:
        """Find a reply in the stage's journal, or in that of another stage.

        One that cannot be read has none.
        """
        own = self._journal.path
        finished = self._journal.find(key)
        if finished is not None:
            return msgspec.json.decode(finished.reply, type=ProbeReply)
        for path in sorted(own.parent.glob("*.sqlite")):
            if path == own:
                continue
            try:
                with JournalReader(path) as journal:
                    recorded = journal.get(key)
            except InputError:
                continue
            if recorded is not None:
                return msgspec.json.decode(recorded, type=ProbeReply)
        return None
