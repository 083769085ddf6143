"""Find the results of a table that were asked otherwise than the others of their way of asking.

Compared are the prompt with its chat format, the tools, the budgets of a rollout, the price of a
search and the sampling. What most rows of a way of asking (`coa`, `cot`, `react`, a baseline) have
is what is usual; where as many have the one as the other, the row that stands first has it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import NamedTuple

from coa.tools.search import SearchTool
from evaluation.outcomes import Result, Setting

_UNKNOWN = "unknown"
"""The value of a setting that a result does not hold, as it is older than the setting."""
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
TOOL_CHOICE = """Calls of a tool are means over the questions. "Calculated" is the share of the \
questions in which
the calculator was called, of those whose answer has to be calculated from facts, and of the \
others."""
"""Explains the columns that are there where a result offered more tools than the search."""


class Difference(NamedTuple):
    """A setting in which a row differs from what is usual for its way of asking."""

    key: str
    """`prompt`, `tools`, a budget such as `max_context_tokens`, or a setting of sampling."""
    value: str
    usual: str
    results: tuple[str, ...]
    """Names of the row's results that have the value."""


def find_differences(rows: Sequence[Sequence[Result]]) -> list[list[Difference]]:
    """Compare the rows of a table, each with its seeds; return the differences of each row."""
    usual = _find_usual(rows)
    prompts = _name_prompts(result.setting for results in rows for result in results)
    found = []
    for results in rows:
        names: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for result in results:
            usual_here = usual[result.setting.way_of_asking]
            asked = _asked_with(result.setting)
            for key, most in usual_here.items():
                value = asked.get(key, _UNKNOWN)
                if value != most:
                    names[key, value, most].append(result.setting.name)
        found.append(
            [
                Difference(key, prompts.get(value, value), prompts.get(most, most), tuple(having))
                for (key, value, most), having in names.items()
            ]
        )
    return found


def sign(number: int) -> str:
    """Return the sign of a note: its number in superscript."""
    return str(number).translate(_SUPERSCRIPTS)


def _find_usual(rows: Iterable[Sequence[Result]]) -> dict[str, dict[str, str]]:
    """Find the value of each setting that most rows have, for each way of asking."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for results in rows:
        values: dict[tuple[str, str, str], None] = {}
        for result in results:
            for key, value in _asked_with(result.setting).items():
                values[result.setting.way_of_asking, key, value] = None
        for mode, key, value in values:  # each once, however many seeds a row has
            counts[mode][key][value] += 1
    usual: dict[str, dict[str, str]] = {}
    for mode, by_key in counts.items():
        usual[mode] = {key: found.most_common(1)[0][0] for key, found in by_key.items()}
    return usual


def _asked_with(setting: Setting) -> dict[str, str]:
    """Return the settings that are compared, as text."""
    values = {"prompt": setting.prompt_hash, **setting.limits, **asdict(setting.sampling)}
    values["search_price"] = setting.search_price
    values["tools"] = ", ".join(setting.tools) or SearchTool.name
    del values["seed"]  # another seed is another draw, not another way of asking
    return {key: str(value) for key, value in values.items()}


def _name_prompts(settings: Iterable[Setting]) -> dict[str, str]:
    """Return how the prompts are shown, by their hashes: with their file where it is known."""
    shown: dict[str, str] = {}
    for setting in settings:
        if setting.prompt_file:
            shown.setdefault(setting.prompt_hash, f"{setting.prompt_file} ({setting.prompt_hash})")
    return shown
