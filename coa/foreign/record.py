"""Define the record of a foreign row, and read the columns that formats share."""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from coa.records.trajectory import Mode, Sampling, Step, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason


class Format(StrEnum):
    """The format of a foreign row, by its columns and the tags in its text."""

    AUTO = "auto"
    """Found for each row from its columns."""
    R1_SEARCHER = "r1_searcher"
    """A text with `<|begin_of_query|>` and `<|begin_of_documents|>`: R1-Searcher."""
    REACT = "react"
    """`Thought:`, `Action: tool[argument]` and `Observation:`, as one text or as messages, with a
    question: ReAct, FireAct."""
    REFLEXION = "reflexion"
    """A text with numbered labels, `Thought 1:`: ReAct, Reflexion, AutoAct."""
    AUTOCOA = "autocoa"
    """A text in AutoCoA's tags, which are ours (docs/protocol.md)."""
    SEARCH_R1 = "search_r1"
    """A text with `<search>`, `<information>`, `<answer>`: Search-R1, ZeroSearch."""
    ASEARCHER = "asearcher"
    """The same with `<access>` for pages: ASearcher."""
    SSRL = "ssrl"
    """The tags of Search-R1 where the policy wrote the information itself. Never found by itself,
    because the text looks the same."""
    RESEARCH = "research"
    """A text with `<search>` or `<python>`, `<result>`, `<answer>`: ReSearch, ARPO."""
    SEARCH_O1 = "search_o1"
    """A text with `<|begin_search_query|>` and `<|begin_search_result|>`: Search-o1,
    SimpleDeepSearcher."""
    TOOL_CALL_TEXT = "tool_call_text"
    """A text with `<tool_call>` and JSON, `<tool_response>`: ReCall, Tongyi, WebExplorer, Qwen."""
    MESSAGES = "messages"
    """OpenAI's messages, as TRL, prime-rl and OpenResearcher have them: `messages`, or `prompt` and
    `completion`; calls in `tool_calls` or, as Tongyi DeepResearch writes them, in `<tool_call>`."""
    SHAREGPT = "sharegpt"
    """LLaMA-Factory's sharegpt: `conversations` of human, gpt, function_call and observation."""
    ATIF = "atif"
    """Harbor's ATIF 1.x: `schema_version`, `agent`, and `steps` with calls and observations."""
    VERIFIERS = "verifiers"
    """verifiers v1, `traces.jsonl`: `task`, and `nodes` that say which messages were sampled."""
    INSPECT = "inspect"
    """Inspect's logs in JSON, or their samples: `id`, `epoch`, `input`, `target`, `messages`."""


class ForeignRow(NamedTuple):
    """A row that was read."""

    format: Format
    question_id: str
    """The file's own id; empty where it has none, or one with `/`."""
    question: str
    gold_answers: tuple[str, ...]
    """Empty where the file has none."""
    prompt: str
    """Empty where the file does not have it."""
    steps: tuple[Step, ...]
    mode: Mode
    sampling: Sampling
    search_fingerprint: str
    model: str = ""
    """The model that wrote the steps; empty where the row names it in `model` or not at all."""


ID_COLUMNS = ("question_id", "qid", "query_id")
"""The columns of a question's id. A column `id` may be that of the trajectory."""
GOLD_COLUMNS = (
    "gold_answers",
    "golden_answers",
    "gold_answer",
    "gold",
    "ground_truths",
    "ground_truth",
    "targets",
    "target",
    "answers",
    "answer",
    "gts",
    "gt",
)
_GOLD_OBJECTS = ("reward_model", "reward_spec", "info", "extra_info")
"""Objects that may hold such a column, as in verl, SkyRL and prime-rl."""
_TOOL_RUN_COLUMNS = ("gen_text_store", "traj")
"""The columns of R1-Searcher's and FireAct's runs, all of which had a search at hand."""
UNKNOWN_SAMPLING = Sampling(temperature=-1.0, top_p=-1.0, seed=-1)
"""No file says how its policy was sampled; no server accepts -1, so it is clearly no setting."""


def question_hash(question: str) -> str:
    """Make an id for a question without one: SHA-256 of its text, first 16 hex digits."""
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def question_text(value: Any) -> str:
    """Read a question, stripped.

    Raises:
        UnreadableError: it is missing or blank.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text:
        raise UnreadableError(UnreadableReason.NO_QUESTION, 0)
    return text


def identifier(value: Any) -> str:
    """Read an id; empty where there is none, or one with `/`."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    return "" if "/" in text else text  # the separator within a trajectory's id


def first_identifier(row: Mapping[str, Any], names: Sequence[str]) -> str:
    """Read the id in the first of the columns that has one; empty where none has."""
    for name in names:
        found = identifier(row.get(name))
        if found:
            return found
    return ""


def gold_answers(value: Any) -> tuple[str, ...]:
    """Read one gold answer or several, without the blank ones; an object has them in `target`."""
    if isinstance(value, dict):
        value = value.get("target")
    texts: list[str] = []
    for item in value if isinstance(value, list) else [value]:
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        if isinstance(item, str) or is_number:
            texts.append(str(item).strip())
    return tuple(text for text in texts if text)


def gold_answers_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Find the gold answers of a row: in the first column that holds any, then in its objects."""
    places = [row]
    for name in _GOLD_OBJECTS:
        inner = row.get(name)
        if isinstance(inner, dict):
            places.append(inner)
    for place in places:
        for name in GOLD_COLUMNS:
            found = gold_answers(place.get(name))
            if found:
                return found
    return ()


def mode_of(row: Mapping[str, Any], steps: Sequence[Step]) -> Mode:
    """Tell the mode of a row; most do not say which tools were offered, so the calls decide."""
    acts = any(step.kind is StepKind.ACTION for step in steps)
    return Mode.COA if acts or any(name in row for name in _TOOL_RUN_COLUMNS) else Mode.COT


def optional_text(value: Any) -> str | None:
    """Return a text that is not blank; None for anything else."""
    return value if isinstance(value, str) and value.strip() else None


class Verdicts(NamedTuple):
    """What a file says of an answer; None where it does not."""

    prediction: str | None = None
    exact_match: bool | None = None
    f1: float | None = None
    judge: bool | None = None


def verdicts_of(row: Mapping[str, Any]) -> Verdicts:
    """Read the columns of R1-Searcher, FireAct and AutoAct that judge an answer."""
    exact_match = row.get("em", row.get("correct"))
    f1 = row.get("f1")
    judge = str(row.get("gpt4o_output")).strip().lower()
    return Verdicts(
        prediction=optional_text(row.get("pred_ans", row.get("pred"))),
        exact_match=exact_match if isinstance(exact_match, bool) else None,
        f1=float(f1) if isinstance(f1, int | float) else None,
        judge={"true": True, "false": False}.get(judge),
    )
