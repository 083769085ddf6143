"""Answer a search with the nearest one that was made before, which costs nothing more.

Recorded queries are searched with the project's own BM25 index. The best of them is near where it
holds enough of the new query's words. Where none is near, another simulator writes the observation.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from coa.errors import InputError
from coa.policy import Finish
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Outcome, Trajectory
from coa.rollout.loop import State
from coa.rollout.simulated import SimulatedTools, observation_body
from coa.rollout.simulators.settings import Compares, RecordedSettings
from coa.search import Passage
from coa.search.analysis import IndexSettings, analyser
from coa.search.embedded import EmbeddedSearch
from coa.store import tables
from coa.store.pending import Call
from coa.tools import ToolReply

_CANDIDATES = 20
"""Hits of BM25 among which a near one is looked for."""
_NOTHING = ToolReply(Outcome.SIMULATED, "No results.")


class RecordedCall(NamedTuple):
    """A call of a tool that was made and answered."""

    question_id: str
    tool: str
    query: str
    body: str


def read_calls(path: Path) -> Iterator[RecordedCall]:
    """Yield the answered calls of a table of trajectories, or of the train split of a set.

    Raises:
        InputError: the file is missing, or holds no trajectories.
    """
    file = path / "train.parquet" if path.is_dir() else path
    if "trajectory" in tables.open_parquet(file).schema_arrow.names:
        for row in tables.read_table(file, GradedTrajectory):
            yield from calls_of(row.trajectory)
    else:
        for trajectory in tables.read_table(file, Trajectory):
            yield from calls_of(trajectory)


def calls_of(trajectory: Trajectory) -> Iterator[RecordedCall]:
    """Yield the calls of a trajectory that a tool answered."""
    for action in protocol.action_indices(trajectory.steps):
        call, *after = trajectory.steps[action : action + 2]
        if after and after[0].outcome is Outcome.OK and call.tool and call.argument:
            body = observation_body(after[0].text, call.tool)
            yield RecordedCall(trajectory.question_id, call.tool, call.argument, body)


class Recordings:
    """Calls that were made, searched by their queries; no two are equal."""

    def __init__(self, calls: Iterable[RecordedCall], settings: RecordedSettings) -> None:
        self.calls = list(dict.fromkeys(calls))
        self._settings = settings
        self._words: dict[int, set[str]] = {}
        passages = []
        for number, call in enumerate(self.calls):
            passages.append(Passage(str(number), "", self._compared(call)))
        self._index = EmbeddedSearch.in_memory(passages)
        self._analyser = analyser(IndexSettings())

    def find(self, question_id: str, tool: str, query: str) -> RecordedCall | None:
        """Return the nearest call of the tool; None where none is near."""
        wanted = set(self._index.query_terms(query))
        best: RecordedCall | None = None
        best_share = 0.0
        for hit in self._index.find(query, _CANDIDATES):
            number = int(hit.passage.id)
            call = self.calls[number]
            is_own = self._settings.held_out and call.question_id == question_id
            if is_own or call.tool != tool:
                continue
            share = len(wanted & self._words_of(number)) / len(wanted)
            if share > best_share:
                best, best_share = call, share
        return best if best_share >= self._settings.min_share else None

    def _words_of(self, number: int) -> set[str]:
        if number not in self._words:
            text = self._compared(self.calls[number])
            self._words[number] = set(self._analyser.analyze(text))
        return self._words[number]

    def _compared(self, call: RecordedCall) -> str:
        if self._settings.compares is Compares.QUERIES:
            return call.query
        return f"{call.query}\n{call.body}"


class RecordedTools:
    """An environment that answers with recorded observations, else asks another simulator."""

    def __init__(
        self,
        recordings: Recordings,
        fallback: SimulatedTools | None,
        *,
        name: str,
    ) -> None:
        self._recordings = recordings
        self._fallback = fallback
        self._name = name
        self.finishes: Counter[Finish] = Counter()
        self.last_whole: list[bool] = []

    @property
    def fingerprint(self) -> str:
        """Return `recorded/{what}` and who writes where nothing is near."""
        other = self._fallback.fingerprint if self._fallback else "nothing"
        return f"recorded/{self._name}/{other}"

    @property
    def is_in_process(self) -> bool:
        """Return whether a model in this process writes where nothing is near."""
        return self._fallback is not None and self._fallback.is_in_process

    async def __call__(self, states: Sequence[State]) -> list[ToolReply]:
        """Answer the calls of states; what is not near goes to the other simulator together."""
        found = [self._find(state) for state in states]
        missing = [number for number, reply in enumerate(found) if reply is None]
        written: Sequence[ToolReply] = ()
        last_whole = [True] * len(states)
        if self._fallback is not None and missing:
            written = await self._fallback([states[number] for number in missing])
            for number, is_whole in zip(missing, self._fallback.last_whole, strict=True):
                last_whole[number] = is_whole
        # Another call may have come while the other simulator wrote.
        self.last_whole = last_whole
        for is_whole in self.last_whole:
            self.finishes[Finish.STOP if is_whole else Finish.LENGTH] += 1
        rest = iter(written)
        return [reply or next(rest, _NOTHING) for reply in found]

    def _find(self, state: State) -> ToolReply | None:
        call = state.pending
        assert isinstance(call, Call), call
        near = self._recordings.find(state.task.question_id, call.tool, call.argument)
        return ToolReply(Outcome.SIMULATED, near.body) if near else None


def open_recordings(settings: RecordedSettings) -> Recordings:
    """Read what was recorded.

    Raises:
        InputError: a file is missing or broken, or there is no recorded search.
    """
    calls: list[RecordedCall] = []
    for path in settings.sets:
        calls += read_calls(Path(path))
    if not calls:
        raise InputError(
            "there are no recorded searches",
            where=f"simulator.recorded.sets: {', '.join(settings.sets) or 'none'}",
            expected="tables of trajectories with real searches",
        )
    return Recordings(calls, settings)
