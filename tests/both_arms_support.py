"""Continue both arms of forks with a scripted policy, through the real loop and a real journal."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coa.errors import ServiceError
from coa.policy import Completion, Request, RequestError
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm, PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Sampling
from coa.rollout.forks import ArmChoice, BranchParams
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.points import Point
from coa.rollout.runtime import Clock, Runtime
from coa.search import Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import SearchTool
from coa.spending.journaled import JournaledPolicy, JournaledTool
from coa.spending.ledger import Ledger
from coa.store import tables
from coa.store.journal import Journal
from coa.store.spool import Spool
from coa.tools import library_fingerprint
from coa.tools.calculator import Calculator
from curate.forks.arms import try_arms as try_arms_of
from curate.forks.choice import Fork
from curate.forks.results import ResultWriter, Totals
from curate.forks.tasks import ForkRun
from tests.sample_records import make_graded

QUESTION = Question("q", "", ("Paris",), "train", "chain", 1)
PROMPTS = {
    Arm.ACT: Prompt("use tools: {question}\n<think>\n", "with"),
    Arm.THINK: Prompt("no tools: {question}\n<think>\n", "without"),
}
RIGHT = "\n</think> \\boxed{Paris}"
WRONG = "\n</think> \\boxed{Rome}"
NEED = "I need the capital."
TOOLS = {
    "search": SearchTool(EmbeddedSearch.in_memory([Passage("p", "France", "Its capital: Paris.")])),
    "calculate": Calculator(),
}
BOTH = BranchParams(arms=ArmChoice.BOTH, num_continuations=16)
Script = Callable[[Request], str]


def call(tool: str, argument: str = "capital") -> str:
    """Write a complete call."""
    return f"{protocol.open_tag(tool)} {argument} {protocol.close_tag(tool)}"


def is_thinking(request: Request) -> bool:
    """Tell whether a request is without the tools."""
    return request.context.startswith("no tools")


def answers(*, acting: str, thinking: str) -> Script:
    """Write a script that ends in one text after it acted, and in another where it did not."""

    def write(request: Request) -> str:
        if is_thinking(request):
            return f" It may be known. And so on.{thinking}"
        for tool in TOOLS:
            if request.context.endswith(protocol.open_tag(tool)):
                return f" 1 {protocol.close_tag(tool)}"
        return acting

    return write


def parent(text: str = f"{NEED} It is Rome.{WRONG}", number: int = 0) -> GradedTrajectory:
    """Make a graded trajectory with this text."""
    asked = f"What is capital {number}?"
    question = replace(QUESTION, question_id=f"q{number}", question=asked)
    steps = protocol.parse(text)
    num_actions = len(protocol.action_indices(steps))
    prompt = PROMPTS[Arm.ACT].fill(asked)
    return make_graded(question, steps, prompt=prompt, model="scripted", num_actions=num_actions)


def fork(number: int = 0, tool: str = "search") -> Fork:
    """Fork a parent that only reasoned after the sentence that names the need."""
    return Fork(parent(number=number), len(NEED), Arm.ACT, tool=tool)


class Counted(ScriptedPolicy):
    """A scripted policy that keeps its requests; it may be cut off, or refuse some contexts."""

    def __init__(self, script: Script, most: int | None = None, refuses: str = "") -> None:
        super().__init__(script, "counted")
        self.asked: list[Request] = []
        self._most = most
        self._refuses = refuses

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        if len(self.asked) == self._most:
            raise ServiceError("the server is gone")
        if self._refuses and self._refuses in request.context:
            raise RequestError("a filter withholds the text")
        self.asked.append(request)
        return await super().complete(request)


@dataclass(frozen=True)
class Tried:
    """What became of forks."""

    points: list[Point]
    pairs: list[PreferencePair]
    forks: list[GradedTrajectory]
    asked: list[Request]
    totals: Totals


def try_arms(
    folder: Path,
    script: Script,
    forks: Sequence[Fork] = (),
    settings: BranchParams = BOTH,
    *,
    tools: Sequence[str] = ("search",),
    most_calls: int | None = None,
    refuses: str = "",
) -> Tried:
    """Continue both arms of the forks, with a journal in the folder."""
    policy = Counted(script, most_calls, refuses)
    toolbox = {name: TOOLS[name] for name in tools}
    paths = {name: folder / f"{name}.parquet" for name in ("pairs", "forks", "points")}
    with (
        Journal(folder / "journal.sqlite") as journal,
        tables.TableWriter(paths["pairs"], PreferencePair) as pairs,
        tables.TableWriter(paths["forks"], GradedTrajectory) as rows,
        tables.TableWriter(paths["points"], Point) as points,
        Spool(Fork, folder) as spool,
    ):
        for number, each in enumerate(forks or [fork()]):
            spool.put(number, each)
        results = ResultWriter(pairs, rows, points)
        ledger = Ledger(journal)
        runtime = Runtime(
            run=RolloutContext(policy, Sampling(), Limits(), library_fingerprint(toolbox)),
            policy=JournaledPolicy(policy, journal, ledger),
            tools={name: JournaledTool(tool, journal) for name, tool in toolbox.items()},
            journal=journal,
            ledger=ledger,
            clock=Clock(),
            concurrency=4,
        )
        run = ForkRun(PROMPTS, tuple(tools))
        asyncio.run(try_arms_of(spool, settings, run, runtime, results, "branch"))
    return Tried(
        list(tables.read_table(paths["points"], Point)),
        list(tables.read_table(paths["pairs"], PreferencePair)),
        list(tables.read_table(paths["forks"], GradedTrajectory)),
        policy.asked,
        results.totals,
    )
