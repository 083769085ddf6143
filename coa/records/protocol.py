r"""Write and read the protocol's tags; no other file knows them.

The text of a rollout has this form:

- The policy thinks inside `<think>` and `</think>`.
- It calls a tool with an action, `<begin_search> query </end_search>`. The two tags differ, as
  AutoCoA published them (arXiv 2503.06580).
- The observation follows the action: `<search_result> ... </search_result>`.
- After `</think>` the policy gives its answer in `\boxed{}`.

Every other tool T has tags of the same form: `<begin_T>`, `</end_T>`, `<T_result>`, `</T_result>`.

Two laws hold for every text (tests/test_protocol.py):

1. `parse(render(steps)) == steps` in kinds, authors and texts.
2. `neutralise(text)` holds nothing that could be read as a tag. So no question and no passage can
   call a tool, close an observation or give an answer.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from coa.errors import InputError
from coa.records.control_tokens import KNOWN, break_names, is_in
from coa.records.trajectory import Author, Outcome, Step, StepKind

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
ANSWER_MARKER = f"\n{THINK_CLOSE}\n\nThe final answer is \\boxed{{"
"""The scaffold appends it when a budget is used up (Algorithm 1); the policy then answers."""

MAX_TOOL_CHARS = 128
"""The longest name of a tool, as in the Model Context Protocol."""
_TOOL = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
_CLOSE = re.compile(rf"</end_(?P<tool>{_TOOL})>")
_EDGE = re.compile(rf"<begin_(?P<open>{_TOOL})>|</end_(?P<close>{_TOOL})>|{THINK_CLOSE}")
_STRAY = re.compile(rf"</?think>|<begin_{_TOOL}>|</end_{_TOOL}>|</?{_TOOL}_result>")
# Text that may be taken for a tag: our own tags in any case and spacing, and the special tokens of
# chat templates. At most three blanks are skipped, so a megabyte of them costs no more than a word.
# A name may have any length: it holds no `<`, so no character is examined for more than one tag.
_SPECIALS = (
    r"s|unk|pad|bos|eos|mask|sep|cls|endoftext|(?:start|end)_of_turn|tool_call|tool_response"
    r"|sop|eop|enc|dblock|arg_key|arg_value|function_call|code_interpreter|commit_\w{1,9}"
    r"|fim_\w{1,9}|(?:bos|eos|eot)_token|unused_?\d{1,4}|special_\d{1,4}|extra_id_\d{1,4}"
)
# Seed's and MiniMax's tokens: `<seed:think>`, `</seed:tool_call>`, `<minimax:tool_call>`.
_NAMES = rf"think|begin_|end_|\w+_result|(?:seed|minimax):|(?:{_SPECIALS})\s{{0,3}}>"
_BARS = "[|｜]"  # noqa: RUF001
_TAG_LIKE = re.compile(rf"<(?=\s{{0,3}}/?\s{{0,3}}(?:{_NAMES}|{_BARS}))", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOXED = re.compile(r"\\(?=boxed|fbox)")


def open_tag(tool: str) -> str:
    """Return the tag that begins a call; the scaffold may insert it, as the action trigger."""
    return f"<begin_{tool}>"


def close_tag(tool: str) -> str:
    """Return the tag that ends a call: the stop string of a rollout."""
    return f"</end_{tool}>"


def is_tool_name(name: str) -> bool:
    """Return whether tags with this name are read back as the tags of this tool."""
    return len(name) <= MAX_TOOL_CHARS and re.fullmatch(_TOOL, name) is not None


CUT_MARK = " ... [cut off]"
"""Ends an observation that was cut because the context had no room for more of it."""


def observation_text(tool: str, body: str, control_tokens: Sequence[str] = ()) -> str:
    """Return an observation as the policy reads it; only here is the body neutralised."""
    return f"\n<{tool}_result> {neutralise(body, control_tokens)} </{tool}_result>\n"


def observation_body(step: Step) -> str:
    """Return what a tool answered, without the tags around it."""
    opening, closing = observation_text(step.tool or "", "\0").split("\0")
    return step.text.removeprefix(opening).removesuffix(closing)


def neutralise(text: str, control_tokens: Sequence[str] = ()) -> str:
    r"""Make `text` harmless: nothing in it can be read as a tag, an answer or a control token.

    - The `<` of anything like a tag becomes `‹`, and the backslash of `\boxed` becomes `∖`.
    - The names of control tokens, well-known or given, are broken
    (`coa/records/control_tokens.py`).
    - Lone surrogates, which no encoder accepts, become U+FFFD.
    - The text is composed to NFC, because some tokenizers (Qwen's) give back nothing else.
    - Look-alikes that a tokenizer may fold to ASCII, such as full-width signs, are folded first,
      but only where the folded text would hold one of the things above.

    All other text stays unchanged.
    """  # noqa: RUF002
    names = (*KNOWN, *control_tokens)
    text = unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", text))
    folded = unicodedata.normalize("NFKC", text)
    if folded != text and _could_act(folded, names):
        text = folded
    text = _TAG_LIKE.sub("‹", text)  # noqa: RUF001
    text = _BOXED.sub("∖", text)  # noqa: RUF001
    return break_names(text, names)


def break_tags(text: str) -> str:
    """Break the protocol's exact tags in text of a policy that does not know them; no more."""
    return _STRAY.sub(lambda tag: f"‹{tag[0][1:]}", text)  # noqa: RUF001


def _could_act(text: str, names: Iterable[str]) -> bool:
    """Return whether a text holds something like a tag, an answer's box or a control token."""
    has_tag = _TAG_LIKE.search(text) or _BOXED.search(text)
    return has_tag is not None or is_in(text, names)


def is_neutralised_anyway(name: str) -> bool:
    """Return whether `neutralise` breaks a token's name without being given it."""
    return _TAG_LIKE.match(name) is not None


def render(steps: Iterable[Step]) -> str:
    """Join the texts of the steps."""
    return "".join(step.text for step in steps)


def parse_policy(
    text: str, *, is_thinking: bool = True, triggered_tool: str = ""
) -> tuple[Step, ...]:
    """Split the text that the policy wrote in one turn into steps; joined, they give it again.

    A call counts only when it is complete. Its opening tag is the last one before the closing tag.
    Whatever else looks like a tag stays in the thought, where `stray_tags` finds it.

    Args:
        text: What the policy wrote.
        is_thinking: False once the thinking is closed; then all text is answer.
        triggered_tool: The tool whose opening tag the scaffold has just inserted.
    """
    if not text:
        return ()
    if not is_thinking:
        return (_policy_step(StepKind.ANSWER, text),)
    if triggered_tool and text.endswith(close_tag(triggered_tool)):
        return (_action(text, triggered_tool, body_start=0),)
    thought, think_close, rest = text.partition(THINK_CLOSE)
    if think_close:
        return (*_thought(thought), _policy_step(StepKind.ANSWER, think_close + rest))
    start, tool = _last_call(text)
    if start < 0:
        return _thought(text)
    action = _action(text[start:], tool, body_start=len(open_tag(tool)))
    return (*_thought(text[:start]), action)


def _last_call(text: str) -> tuple[int, str]:
    """Find the call that ends `text`.

    Returns:
        Where the call begins, and its tool; a negative number where no complete call ends the text.
    """
    if not text.endswith(">"):
        return -1, ""
    closings = list(_CLOSE.finditer(text))
    if not closings or closings[-1].end() != len(text):
        return -1, ""
    closing = closings[-1]
    tool = closing["tool"]
    return text.rfind(open_tag(tool), 0, closing.start()), tool


def _policy_step(kind: StepKind, text: str) -> Step:
    return Step(kind, Author.POLICY, text)


def _thought(text: str) -> tuple[Step, ...]:
    """Return a thought as the only step, or no step where the text is empty."""
    return (_policy_step(StepKind.THOUGHT, text),) if text else ()


def _action(text: str, tool: str, *, body_start: int) -> Step:
    """Return the step of a call whose argument stands between `body_start` and the closing tag."""
    argument = text[body_start : -len(close_tag(tool))].strip()
    return Step(StepKind.ACTION, Author.POLICY, text, tool=tool, argument=argument)


def observation(
    tool: str,
    body: str,
    outcome: Outcome,
    passages: tuple[str, ...] = (),
    control_tokens: Sequence[str] = (),
) -> Step:
    """Return the step that the environment appends after an action."""
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
    """Return a step that the scaffold inserts: `ANSWER_MARKER`, or a tool's opening tag."""
    return Step(StepKind.MARKER, Author.SCAFFOLD, text, tool=tool)


def parse(text: str) -> tuple[Step, ...]:
    """Read a rollout's text (without its prompt) back into steps; the inverse of `render`.

    Authors follow from the form. An observation after a call is the environment's, with all blanks
    before it. The exact `ANSWER_MARKER` is the scaffold's. The rest is the policy's, inserted
    triggers included. What only the runtime knows (outcomes, passages) is lost, so the pipeline
    stores steps and parses only foreign text.
    """
    steps: list[Step] = []
    unclosed: set[str] = set()  # tools whose next observation is never closed: not searched again
    opened: dict[str, int] = {}  # where each tool's last opening tag begins, since the last call
    position = 0  # the end of the last step
    edge = _EDGE.search(text)
    while edge is not None and edge[0] != THINK_CLOSE:
        end = edge.end()
        if edge["open"]:
            opened[edge["open"]] = edge.start()
        elif edge["close"] in opened:
            tool = edge["close"]
            start = opened[tool]
            steps += _thought(text[position:start])
            steps.append(_action(text[start:end], tool, body_start=len(open_tag(tool))))
            observed = _observation_at(text, end, tool, unclosed)
            if observed is not None:
                steps.append(observed)
                end += len(observed.text)
            position = end
            opened = {}
        edge = _EDGE.search(text, end)
    return (*steps, *_parse_end(text[position:]))


def _observation_at(text: str, start: int, tool: str, unclosed: set[str]) -> Step | None:
    """Read the observation of `tool` that begins at `start`; None when there is none."""
    # Frameworks differ in how many blanks they write before the tag.
    opening = re.compile(rf"\s*<{tool}_result>").match(text, start)
    if opening is None or tool in unclosed:
        return None
    closing = f"</{tool}_result>"
    end = text.find(closing, opening.end())
    if end < 0:
        unclosed.add(tool)
        return None
    end += len(closing)
    if text.startswith("\n", end):
        end += 1
    return Step(StepKind.OBSERVATION, Author.ENVIRONMENT, text[start:end], tool=tool)


def _parse_end(text: str) -> tuple[Step, ...]:
    """Read the text after the last call: a last turn of the policy, or a forced answer."""
    before, forced, answer = text.partition(ANSWER_MARKER)
    if not forced or THINK_CLOSE in before:
        return parse_policy(text)
    return (*_thought(before), marker(ANSWER_MARKER), *parse_policy(answer, is_thinking=False))


def action_indices(steps: Sequence[Step]) -> tuple[int, ...]:
    """Return the positions of the actions among the steps."""
    return tuple(i for i, step in enumerate(steps) if step.kind is StepKind.ACTION)


def prefix_before_action(steps: Sequence[Step], k: int) -> tuple[Step, ...]:
    """Return the steps before the k-th action (from 0), without a trigger inserted for it.

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
    """Split the steps at `point`, a character offset into their joined text; cut only a thought.

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
            head = replace(step, text=step.text[:left])
            tail = replace(step, text=step.text[left:])
            return (*steps[:i], head), (tail, *steps[i + 1 :])
        left -= len(step.text)
    if left:
        raise InputError(
            "the point lies after the end", expected=f"at most {len(render(steps))}", got=point
        )
    return tuple(steps), ()


class Piece(NamedTuple):
    """A part of a text that is encoded to token ids by itself, so that no token has two authors."""

    text: str
    author: Author
    kind: StepKind | None
    """None for the prompt."""
    is_world: bool = False
    """Whether a world model predicts it: an observation's body with its closing tag."""


def pieces(prompt: str, steps: Iterable[Step]) -> list[Piece]:
    """Cut the text, prompt first, into pieces that are encoded one by one.

    The cuts are where a step ends, and where an observation's body begins and ends. A space before
    a call is cut off from its author's thought and begins the call's piece: whoever tokenises the
    text as a whole joins the space to the tag, not to the sentence before it.
    """
    found = [Piece(prompt, Author.SCAFFOLD, None)] if prompt else []
    for step in steps:
        new = _step_pieces(step)
        if step.kind is StepKind.ACTION and found and _gives_space(found[-1], step):
            thought = found.pop()
            found.append(thought._replace(text=thought.text[:-1]))
            new = [new[0]._replace(text=f" {step.text}")]
        found += new
    return [piece for piece in found if piece.text]


def _gives_space(piece: Piece, call: Step) -> bool:
    """Tell whether a piece is a thought by the author of the call after it, and ends in a space."""
    is_thought = piece.kind is StepKind.THOUGHT and piece.author is call.author
    return is_thought and piece.text.endswith(" ")


def _step_pieces(step: Step) -> list[Piece]:
    opening = f"\n<{step.tool}_result>"
    is_in_form = step.text.startswith(opening) and step.text.endswith("\n")
    if step.kind is not StepKind.OBSERVATION or not is_in_form:
        return [Piece(step.text, step.author, step.kind)]
    body = step.text[len(opening) : -1]
    is_world = step.outcome in (Outcome.OK, Outcome.EMPTY)
    return [
        Piece(opening, step.author, step.kind),
        Piece(body, step.author, step.kind, is_world),
        Piece("\n", step.author, step.kind),
    ]


def closes_thinking(step: Step) -> bool:
    """Return whether the thinking is over after this step: the answer has begun or was forced."""
    return step.kind is StepKind.ANSWER or step.text == ANSWER_MARKER


def answer_text(steps: Sequence[Step]) -> str:
    """Return the text after the thinking, a forcing marker included; empty when there is none."""
    for i, step in enumerate(steps):
        if closes_thinking(step):
            return render(steps[i:])
    return ""


def stray_tags(steps: Iterable[Step]) -> list[str]:
    """Find misplaced tags of the policy: forged observations, open calls, a second thinking."""
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
    """Return whether the policy wrote an observation's tag itself."""
    return any(tag.endswith("_result>") for tag in stray_tags(steps))


def all_tags(tools: Iterable[str]) -> set[str]:
    """Return every tag that the protocol may write with `tools`."""
    tags = {THINK_OPEN, THINK_CLOSE}
    for tool in tools:
        tags |= {open_tag(tool), close_tag(tool), f"<{tool}_result>", f"</{tool}_result>"}
    return tags
