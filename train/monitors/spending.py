"""Count what the searches of an RL run came to: real ones and simulated ones, seconds and dollars.

Every RL run logs them step by step as `spent/...` and writes the sums to searches.json beside its
model. A run that resumes from a checkpoint continues to count from there.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from transformers import TrainerCallback

from coa.rollout.drivers import Environment
from coa.rollout.loop import State
from coa.search.settings import EngineKind, SearchParams
from coa.settings.params import Params
from coa.spending.prices import CostParams
from coa.store.under_way import CallUnderWay, follow
from coa.store.whole_files import write_file
from coa.tools import ToolReply

FILE = "searches.json"
_PLACES = 6


@dataclass(slots=True)
class Searches:
    """Sums over searches and calls of other tools, those of validations included."""

    real: int = 0
    """Calls that tools answered."""
    simulated: int = 0
    """Calls that a simulator answered."""
    real_seconds: float = 0.0
    """What they took. Where rollouts do not wait for each other, calls overlap and each counts."""
    simulated_seconds: float = 0.0
    requests: int = 0
    """Requests to servers, repeated ones included; a provider may charge for each."""
    validation: int = 0
    """The real calls that were made in validations, which train nothing."""

    def add(self, other: "Searches") -> None:
        """Add other sums."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def since(self, before: "Searches") -> "Searches":
        """Return what was added since."""
        own, earlier = asdict(self), asdict(before)
        return Searches(**{name: own[name] - earlier[name] for name in own})


class SearchBill(TrainerCallback):
    """The account of one run in one process."""

    def __init__(self, dollars_a_request: float = 0.0) -> None:
        self.total = Searches()
        self._price = dollars_a_request

    def counted(
        self, environment: Environment, *, is_real: bool, is_validation: bool = False
    ) -> Environment:
        """Return the environment, whose calls go to this account."""

        async def answer(states: Sequence[State]) -> Sequence[ToolReply]:
            started = time.perf_counter()
            with follow(CallUnderWay()) as call:
                replies = await environment(states)
            seconds = time.perf_counter() - started
            if is_real:
                on_trial = len(states) if is_validation else 0
                new = Searches(
                    real=len(states),
                    real_seconds=seconds,
                    requests=call.num_requests,
                    validation=on_trial,
                )
            else:
                new = Searches(simulated=len(states), simulated_seconds=seconds)
            self.total.add(new)
            return replies

        return answer

    def logged(self, new: Searches) -> dict[str, float]:
        """Name sums for the log."""
        return {
            "spent/real_searches": new.real,
            "spent/simulated_searches": new.simulated,
            "spent/real_seconds": round(new.real_seconds, _PLACES),
            "spent/simulated_seconds": round(new.simulated_seconds, _PLACES),
            "spent/dollars": round(new.requests * self._price, _PLACES),
        }

    def summary(self, total: Searches) -> dict[str, float]:
        """Return the sums with dollars: those that were paid, and what was saved.

        Had they been real, the simulated calls would have cost a request each.
        """
        found: dict[str, float] = asdict(total)
        found["dollars"] = round(total.requests * self._price, _PLACES)
        found["saved_dollars"] = round(total.simulated * self._price, _PLACES)
        for name in ("real_seconds", "simulated_seconds"):
            found[name] = round(found[name], 2)
        return found

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: object) -> None:
        """Go on from what the checkpoint's run had come to."""
        kept = self._file(args, state)
        if state.global_step and kept.is_file():
            self.total = msgspec.json.decode(kept.read_bytes(), type=Searches)

    def on_save(self, args: Any, state: Any, control: Any, **_: object) -> None:
        """Keep the sums beside the checkpoint."""
        write_file(self._file(args, state), json.dumps(asdict(self.total)))

    def _file(self, args: Any, state: Any) -> Path:
        name = f"searches-{args.process_index}.json"
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / name

    def close(self, folder: Path, *, is_first: bool) -> dict[str, float]:
        """Add up all processes, write the file and return what is in it."""
        from accelerate.utils import gather_object

        total = Searches()
        for other in gather_object([self.total]):
            total.add(other)
        found = self.summary(total)
        if is_first:
            write_file(folder / FILE, json.dumps(found, indent=2) + "\n")
        return found


def price_of_request(sections: Params) -> float:
    """Return what a request of the search costs, in dollars; 0 where nothing is charged."""
    search = sections.section(SearchParams, "search")
    if search.engine is EngineKind.EMBEDDED:
        return 0.0
    prices = sections.section(CostParams, "costs").searches
    name = search.web.provider if search.engine is EngineKind.WEB else "server"
    return prices.get(str(name), 0.0)


def shown(found: dict[str, float]) -> str:
    """Say what a run's searches came to, for its summary line."""
    text = f"{found['real']:,} real searches in {found['real_seconds']:,.1f} s"
    text += f" and {found['simulated']:,} simulated in {found['simulated_seconds']:,.1f} s"
    if found["dollars"] or found["saved_dollars"]:
        text += f", ${found['dollars']:.2f} paid and ${found['saved_dollars']:.2f} saved"
    return text
