r"""The tags, and the only file that knows them.

A rollout reads: everything inside `<think>`; an action `<begin_search> query </end_search>` (asymmetric, as AutoCoA
published it, arXiv 2503.06580); its observation `<search_result> ... </search_result>`; after `</think>` the answer in
`\boxed{}`. Another tool T of the library speaks the same way: `<begin_T>`, `</end_T>`, `<T_result>`, `</T_result>`.

Two laws hold for every text (tests/test_protocol.py): `parse(render(steps)) == steps` in kinds, authors and texts, and
`neutralise(text)` contains nothing that could be read as a tag, so no question or passage can act, close an observation
or answer.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from coa.control_tokens import KNOWN, break_names, is_in
from coa.errors import InputError
from coa.trajectory import Author, Outcome, Step, StepKind

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
ANSWER_MARKER = f"\n{THINK_CLOSE}\n\nThe final answer is \\boxed{{"
"""What the scaffold appends when a budget is used up (Algorithm 1): the policy goes on with the answer itself."""

MAX_TOOL_CHARS = 128
"""Of a tool's name, as in the Model Context Protocol."""
_TOOL = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
_CLOSE = re.compile(rf"</end_(?P<tool>{_TOOL})>")
_EDGE = re.compile(rf"<begin_(?P<open>{_TOOL})>|</end_(?P<close>{_TOOL})>|{THINK_CLOSE}")
_STRAY = re.compile(rf"</?think>|<begin_{_TOOL}>|</end_{_TOOL}>|</?{_TOOL}_result>")
# What may be taken for a tag: ours in any case and spacing, and chat-template specials. Blanks are
# counted: a megabyte of them after a `<` costs no more than a word. A name may be of any length: it
# holds no `<`, so no character is looked at for more than one tag.
_SPECIALS = (
    r"s|unk|pad|bos|eos|mask|sep|cls|endoftext|(?:start|end)_of_turn|tool_call|tool_response"
    r"|sop|eop|enc|dblock|arg_key|arg_value|function_call|code_interpreter|commit_\w{1,9}"
    r"|fim_\w{1,9}|(?:bos|eos|eot)_token|unused_?\d{1,4}|special_\d{1,4}|extra_id_\d{1,4}"
)
# Seed's and MiniMax's tokens: `<seed:think>`, `</seed:tool_call>`, `<minimax:tool_call>`.
_NAMES = rf"think|begin_|end_|\w+_result|(?:seed|minimax):|(?:{_SPECIALS})\s{{0,3}}>|[|｜]"  # noqa: RUF001
_TAG_LIKE = re.compile(rf"<(?=\s{{0,3}}/?\s{{0,3}}(?:{_NAMES}))", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOXED = re.compile(r"\\(?=boxed|fbox)")


def open_tag(tool: str) -> str:
    """The tag with which the policy begins a call; inserted by the scaffold, it is the action trigger."""
    return f"<begin_{tool}>"


def close_tag(tool: str) -> str:
    """The tag with which the policy ends a call; the stop string of a rollout."""
    return f"</end_{tool}>"


def is_tool_name(name: str) -> bool:
    """Whether tags can carry the name: they are read back as those of this tool."""
    return len(name) <= MAX_TOOL_CHARS and re.fullmatch(_TOOL, name) is not None


def observation_text(tool: str, body: str, control_tokens: Sequence[str] = ()) -> str:
    """An observation as the policy reads it; the body is neutralised here and nowhere else."""
    return f"\n<{tool}_result> {neutralise(body, control_tokens)} </{tool}_result>\n"


def neutralise(text: str, control_tokens: Sequence[str] = ()) -> str:
    r"""Make `text` unable to act: the `<` of anything tag-like becomes `‹`, the backslash of `\boxed` becomes `∖`.

    The names of control tokens, well-known ones and those given, are broken
    (`coa/control_tokens.py`). The text is composed to NFC, which is all that some tokenizers
    (Qwen's) give back. Look-alikes that a tokenizer may fold to ASCII (full-width signs) are folded
    first, and only where folding would make one of these; all other text passes unchanged. Lone
    surrogates, which no encoder accepts, become U+FFFD.
    """  # noqa: RUF002
    names = (*KNOWN, *control_tokens)
    text = unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", text))
    folded = unicodedata.normalize("NFKC", text)
    if folded != text and (
        _TAG_LIKE.search(folded) or _BOXED.search(folded) or is_in(folded, names)
    ):
        text = folded
    return break_names(_BOXED.sub("∖", _TAG_LIKE.sub("‹", text)), names)  # noqa: RUF001


def is_neutralised_anyway(name: str) -> bool:
    """Whether `neutralise` knows a token's name without being told of it."""
    return _TAG_LIKE.match(name) is not None


def render(steps: Iterable[Step]) -> str:
    """The text of the steps: their own texts, joined."""
    return "".join(step.text for step in steps)


def parse_policy(
    text: str, *, is_thinking: bool = True, triggered_tool: str = ""
) -> tuple[Step, ...]:
    """Split what the policy wrote in one turn into steps; joined, they give `text` again.

    `is_thinking` is False once the thinking is closed: then all is answer. `triggered_tool` names the tool whose
    opening tag the scaffold has just inserted. A call counts only when it is complete; its opening tag is the last one
    before the closing tag, and whatever else looks like a tag stays in the thought, where `stray_tags` finds it.
    """
    if not text:
        return ()
    if not is_thinking:
        return (_policy(StepKind.ANSWER, text),)
    if triggered_tool and text.endswith(close_tag(triggered_tool)):
        return (_action(text, triggered_tool, 0),)
    thought, think_close, rest = text.partition(THINK_CLOSE)
    if think_close:
        return (*_thought(thought), _policy(StepKind.ANSWER, think_close + rest))
    start, tool = _last_call(text)
    if start < 0:
        return _thought(text)
    return (*_thought(text[:start]), _action(text[start:], tool, len(open_tag(tool))))


def _last_call(text: str) -> tuple[int, str]:
    """Where the call that ends `text` begins, and its tool; (-1, "") when `text` does not end with a complete call."""
    close = list(_CLOSE.finditer(text))[-1:] if text.endswith(">") else []
    if not close or close[0].end() != len(text):
        return -1, ""
    tool = close[0]["tool"]
    return text.rfind(open_tag(tool), 0, close[0].start()), tool


def _policy(kind: StepKind, text: str) -> Step:
    return Step(kind, Author.POLICY, text)


def _thought(text: str) -> tuple[Step, ...]:
    return (_policy(StepKind.THOUGHT, text),) if text else ()


def _action(text: str, tool: str, body_start: int) -> Step:
    argument = text[body_start : -len(close_tag(tool))].strip()
    return Step(StepKind.ACTION, Author.POLICY, text, tool=tool, argument=argument)


def observation(
    tool: str,
    body: str,
    outcome: Outcome,
    passages: tuple[str, ...] = (),
    control_tokens: Sequence[str] = (),
) -> Step:
    """The step that the environment appends after an action."""
    text = observation_text(tool, body, control_tokens)
    return Step(
        StepKind.OBSERVATION,
        Author.ENVIRONMENT,
        text,
        tool=tool,
        outcome=outcome,
        passages=passages,
    )


def marker(text: str, tool: str | None = None) -> Step:
    """A step that the scaffold inserts: `ANSWER_MARKER`, or a tool's opening tag."""
    return Step(StepKind.MARKER, Author.SCAFFOLD, text, tool=tool)


def parse(text: str) -> tuple[Step, ...]:
    """Read a rollout's text (without its prompt) back into steps; the inverse of `render`.

    Authors follow from the form: an observation after a call is the environment's with all blanks before it, the exact
    `ANSWER_MARKER` the scaffold's, the rest the policy's. Inserted triggers read as the policy's, and what only the
    runtime knows (outcomes, passages) is lost; so the pipeline stores steps and parses only foreign text.
    """
    steps: list[Step] = []
    position, edge = 0, _EDGE.search(text)
    unclosed: set[str] = set()  # tools whose observations are closed no more: nobody looks again
    opened: dict[str, int] = {}  # where each tool's last opening tag begins, since the last call
    while edge is not None and edge[0] != THINK_CLOSE:
        end = edge.end()
        if edge["open"]:
            opened[edge["open"]] = edge.start()
        elif (start := opened.get(tool := edge["close"])) is not None:
            steps += [
                *_thought(text[position:start]),
                _action(text[start:end], tool, len(open_tag(tool))),
            ]
            found = _observation_at(text, end, tool, unclosed)
            steps += found
            position = end = end + sum(len(step.text) for step in found)
            opened = {}
        edge = _EDGE.search(text, end)
    return (*steps, *_parse_end(text[position:]))


def _observation_at(text: str, start: int, tool: str, unclosed: set[str]) -> list[Step]:
    """The observation of `tool` that begins at `start`, as a list of one; empty when there is none."""
    opening = re.compile(rf"\s*<{tool}_result>").match(
        text, start
    )  # frameworks differ in how many blanks they write
    closing = f"</{tool}_result>"
    if opening is None or tool in unclosed:
        return []
    end = text.find(closing, opening.end())
    if end < 0:
        unclosed.add(tool)
        return []
    end += len(closing)
    end += text.startswith("\n", end)
    return [Step(StepKind.OBSERVATION, Author.ENVIRONMENT, text[start:end], tool=tool)]


def _parse_end(text: str) -> tuple[Step, ...]:
    before, forced, answer = text.partition(ANSWER_MARKER)
    if not forced or THINK_CLOSE in before:
        return parse_policy(text)
    return (*_thought(before), marker(ANSWER_MARKER), *parse_policy(answer, is_thinking=False))


def action_indices(steps: Sequence[Step]) -> tuple[int, ...]:
    """Positions of the actions among the steps."""
    return tuple(i for i, step in enumerate(steps) if step.kind is StepKind.ACTION)


def prefix_before_action(steps: Sequence[Step], k: int) -> tuple[Step, ...]:
    """The steps before the k-th action (from 0), without a trigger that the scaffold inserted for it.

    Raises:
        InputError: there is no k-th action.
    """
    actions = action_indices(steps)
    if not 0 <= k < len(actions):
        raise InputError(f"there is no action {k}", expected=f"0 to {len(actions) - 1}", got=k)
    end = actions[k]
    if end and steps[end - 1].kind is StepKind.MARKER:
        end -= 1
    return tuple(steps[:end])


def split_at(steps: Sequence[Step], point: int) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps before and after `point`, a character offset into their joined text; only a thought may be cut.

    Raises:
        InputError: the point is outside the text or inside a step that is not a thought.
    """
    left = point
    for i, step in enumerate(steps):
        if left == 0:
            return tuple(steps[:i]), tuple(steps[i:])
        if left < len(step.text):
            if step.kind is not StepKind.THOUGHT:
                raise InputError(
                    f"point {point} lies inside a step that cannot be cut", got=step.kind
                )
            head, tail = (replace(step, text=text) for text in (step.text[:left], step.text[left:]))
            return (*steps[:i], head), (tail, *steps[i + 1 :])
        left -= len(step.text)
    if left:
        raise InputError(
            "the point lies after the end", expected=f"at most {len(render(steps))}", got=point
        )
    return tuple(steps), ()


class Piece(NamedTuple):
    """A stretch of text that is encoded to token ids by itself, so that no token has two authors."""

    text: str
    author: Author
    kind: StepKind | None
    """None for the prompt."""
    is_world: bool = False
    """What a world model predicts: an observation's body with its closing tag."""


def pieces(prompt: str, steps: Iterable[Step]) -> list[Piece]:
    """The text, prompt first, cut where the author changes and where an observation's body begins and ends."""
    found = [Piece(prompt, Author.SCAFFOLD, None)] if prompt else []
    for step in steps:
        found += _step_pieces(step)
    return found


def _step_pieces(step: Step) -> list[Piece]:
    opening = f"\n<{step.tool}_result>"
    if step.kind is not StepKind.OBSERVATION or not (
        step.text.startswith(opening) and step.text.endswith("\n")
    ):
        return [Piece(step.text, step.author, step.kind)]
    is_world = step.outcome in (Outcome.OK, Outcome.EMPTY)
    return [
        Piece(opening, step.author, step.kind),
        Piece(step.text[len(opening) : -1], step.author, step.kind, is_world),
        Piece("\n", step.author, step.kind),
    ]


class Span(NamedTuple):
    """Characters `start` to `end` of a rollout's text, prompt included."""

    start: int
    end: int
    author: Author
    kind: StepKind | None
    """None for the prompt."""


def spans(prompt: str, steps: Iterable[Step]) -> list[Span]:
    """Who wrote which characters of `prompt + render(steps)`; the spans join without gap."""
    found = [Span(0, len(prompt), Author.SCAFFOLD, None)]
    for step in steps:
        start = found[-1].end
        found.append(Span(start, start + len(step.text), step.author, step.kind))
    return found


def closes_thinking(step: Step) -> bool:
    """Whether the thinking is over after this step: the answer has begun, or the answer was forced."""
    return step.kind is StepKind.ANSWER or step.text == ANSWER_MARKER


def answer_text(steps: Sequence[Step]) -> str:
    """The text after the end of the thinking, a forcing marker included; empty when there is none."""
    start = next((i for i, step in enumerate(steps) if closes_thinking(step)), len(steps))
    return render(steps[start:])


def stray_tags(steps: Iterable[Step]) -> list[str]:
    """Tags that the policy wrote where they have no business: forged observations, calls left open, a second think."""
    found: list[str] = []
    for step in steps:
        if step.author is not Author.POLICY:
            continue
        inner = step.text
        if step.kind is StepKind.ANSWER:
            inner = inner.removeprefix(THINK_CLOSE)
        elif step.kind is StepKind.ACTION and step.tool:
            inner = inner.removeprefix(open_tag(step.tool)).removesuffix(close_tag(step.tool))
        found += _STRAY.findall(inner)
    return found


def forges_observation(steps: Iterable[Step]) -> bool:
    """Whether the policy wrote an observation's tag itself."""
    return any(tag.endswith("_result>") for tag in stray_tags(steps))


def all_tags(tools: Iterable[str]) -> set[str]:
    """Every tag that the protocol may write with `tools`."""
    forms = ("<begin_{}>", "</end_{}>", "<{}_result>", "</{}_result>")
    return {THINK_OPEN, THINK_CLOSE, *(form.format(tool) for tool in tools for form in forms)}
