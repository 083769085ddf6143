r"""Trajectories in other people's tags into steps with an author for every character.

The only file that reads foreign tags (coa/own_tags.py turns such steps into ours). Steps keep the foreign text
verbatim: joined, they give it again. Two dialects:

R1-Searcher  A call is a query in its tags, the observation the documents with the blanks around them; the thinking ends
             as ours does, and the answer has a tag of its own. The prompt is not in the released files.
ReAct        As FireAct's `generation.py` runs it: turns of `Thought:` and `Action: tool[argument]`, one `Observation:`
             after each; `Action: finish[answer]` ends. In chats the assistant's messages are the policy's as a whole.
             In plain text the runtime writes each turn's first `Thought:`, and also a fixed
             sentence after the 5th action (to reflect) and the 9th (to wrap up): these are the
             scaffold's. (The loop joins what it sampled with single spaces and may itself write a
             missing `Action:`; such a character counts as the policy's.)

A text that allows two readings is not guessed at: `UnreadableError` says why and where.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from coa import protocol
from coa.errors import InputError
from coa.trajectory import Author, Outcome, Step, StepKind


class UnreadableReason(StrEnum):
    """Why a foreign row cannot be used."""

    TOO_LARGE = "too_large"
    """The line is longer than `max_row_bytes`; it was never held in memory."""
    NULL_BYTE = "null_byte"
    """A text holds a null character, which C programs take for its end."""
    NOT_UTF8 = "not_utf8"
    """The line is not UTF-8, or a text holds half of a surrogate pair."""
    NOT_JSON = "not_json"
    """The line is not a JSON object, or one nested too deep."""
    WRONG_FORMAT = "wrong_format"
    """The row has the columns of no known format, or not those of the format asked for, or roles out of order."""
    NO_QUESTION = "no_question"
    """The question is missing or blank."""
    ID_CLASH = "id_clash"
    """The row's id named another question before."""
    UNCLOSED_TAG = "unclosed_tag"
    """A query, a block of documents, an answer or a bracket is never closed."""
    NESTED_TAG = "nested_tag"
    """A tag stands inside another: where the inner one counts, nobody can say."""
    MISPLACED_TAG = "misplaced_tag"
    """A tag stands where the dialect has no place for it."""
    EMPTY_TURN = "empty_turn"
    """The policy wrote nothing in its turn, or called a tool with nothing."""
    NO_ACTION = "no_action"
    """A turn has neither a call nor an answer."""
    NO_OBSERVATION = "no_observation"
    """A call without an observation after it."""
    TEXT_AFTER_ACTION = "text_after_action"
    """The policy wrote on after its call or answer in one turn: what was run or graded is not what stands there."""
    NO_ANSWER = "no_answer"
    """The trajectory ends without an answer, or with a blank one."""


class UnreadableError(InputError):
    """A foreign text that cannot be read; says why, and at which character of the text."""

    def __init__(self, reason: UnreadableReason, character: int, detail: str = "") -> None:
        super().__init__(
            f"cannot read the row: {reason}", where=f"character {character}", got=detail
        )
        self.reason = reason
        self.character = character
        self.detail = detail


_QUERY, _QUERY_END = "<|begin_of_query|>", "<|end_of_query|>"
_DOCUMENTS, _DOCUMENTS_END = "<|begin_of_documents|>", "<|end_of_documents|>"
_ANSWER, _ANSWER_END = "<answer>", "</answer>"
_PARTNERS = {_QUERY: _QUERY_END, _DOCUMENTS: _DOCUMENTS_END, _ANSWER: _ANSWER_END}
_R1_TAG = re.compile(
    "|".join(map(re.escape, (*_PARTNERS, *_PARTNERS.values(), protocol.THINK_CLOSE)))
)
_R1_DOCUMENT = re.compile(
    r"""
    ^\(\d+\)[ \t]*
    (?:
        (?P<quote>"?)Title:[ \t]*(?P<labelled>.*?)[ \t]*Text:  # quoted as in a table of CSV, or not
        | (?!"?Title:)(?P<bare>.{1,300}?)(?:[ ]{3,}|\t)  # a title, three blanks, the text
    )
    """,
    re.MULTILINE | re.VERBOSE,
)
"""The head of a document, in the three layouts of R1-Searcher's corpora."""

_THOUGHT, _OBSERVATION, _FINISH = "Thought:", "Observation:", "finish"
_REMINDERS = {
    5: "Now that I haven't solved the task within 5 steps, let me do a reflection and think about "
    "how to improve my strategy. ",
    9: "Now that I haven't solved the task within 9 steps, I need to wrap up and finish this task "
    "in the next step. ",
}
"""What FireAct's runtime writes after so many turns, in the released files always.

A policy that was trained on it may write it elsewhere.
"""
_LABEL = re.compile(r"^Action:", re.MULTILINE)
_CALL = re.compile(r"Action:[ \t]*(?P<tool>[A-Za-z][A-Za-z0-9]*)[ \t]*\[(?P<argument>[^\n]*)\]")
_FORGED = re.compile(r"^Observation:", re.MULTILINE)
_OBSERVED = re.compile(r"\nObservation:(?:.*?)(?:\n(?=Thought:|Action:)|\n?\Z)", re.DOTALL)

# What stands around an observation's body and around an answer; the frames of no two dialects begin alike.
_OBSERVATION_FRAMES = ((_DOCUMENTS, _DOCUMENTS_END), (_OBSERVATION, ""))
_ANSWER_FRAMES = (re.compile(rf"{_ANSWER}(.*){_ANSWER_END}", re.DOTALL), _CALL)
_NOTHING = frozenset({"", "None"})


def read_r1_searcher(text: str) -> tuple[Step, ...]:
    """The steps of an R1-Searcher trajectory; joined, they give `text` again.

    Raises:
        UnreadableError: a tag is unclosed, nested or out of place, or there is no answer.
    """
    steps: list[Step] = []
    start = 0
    tags = _R1_TAG.finditer(text)
    for tag in tags:
        if tag[0] not in (_QUERY, _ANSWER, protocol.THINK_CLOSE):
            raise UnreadableError(UnreadableReason.MISPLACED_TAG, tag.start(), tag[0])
        steps += _thought(text[start : tag.start()])
        if tag[0] != _QUERY:
            return (*steps, _r1_answer(text, tag, tags))
        action, observation = _r1_call(text, tag, tags)
        steps += [action, observation]
        start = tag.start() + len(action.text) + len(observation.text)
    raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))


def _r1_call(text: str, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> tuple[Step, Step]:
    query_end = _partner(tag, tags)
    argument = text[tag.end() : query_end.start()].strip()
    if not argument:
        raise UnreadableError(UnreadableReason.EMPTY_TURN, tag.start(), "an empty query")
    documents = next(tags, None)
    if (
        documents is None
        or documents[0] != _DOCUMENTS
        or text[query_end.end() : documents.start()].strip()
    ):
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, query_end.end())
    end = _partner(documents, tags).end()
    end += len(text[end : end + 2]) - len(
        text[end : end + 2].lstrip("\n")
    )  # two line breaks belong to the template
    seen = text[query_end.end() : end]
    action = Step(
        StepKind.ACTION,
        Author.POLICY,
        text[tag.start() : query_end.end()],
        tool="search",
        argument=argument,
    )
    return action, _observation(seen, "search", tuple(_r1_titles(seen)))


def _r1_titles(documents: str) -> Iterator[str]:
    for head in _R1_DOCUMENT.finditer(documents):
        title = head["labelled"] or head["bare"] or ""
        if head["quote"]:
            title = title.replace('""', '"')
        if title.strip():
            yield title.strip()


def _partner(tag: re.Match[str], tags: Iterator[re.Match[str]]) -> re.Match[str]:
    """The tag that closes `tag`: the very next one, or the text is not readable."""
    closing = next(tags, None)
    if closing is None:
        raise UnreadableError(UnreadableReason.UNCLOSED_TAG, tag.start(), tag[0])
    if closing[0] != _PARTNERS[tag[0]]:
        raise UnreadableError(
            UnreadableReason.NESTED_TAG, closing.start(), f"{closing[0]} inside {tag[0]}"
        )
    return closing


def _r1_answer(text: str, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> Step:
    opening = next(tags, None) if tag[0] == protocol.THINK_CLOSE else tag
    if opening is None:
        raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))
    if opening[0] != _ANSWER:
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, opening.start(), opening[0])
    closing = _partner(opening, tags)
    if not text[opening.end() : closing.start()].strip():
        raise UnreadableError(UnreadableReason.NO_ANSWER, opening.start())
    if (extra := next(tags, None)) is not None:
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, extra.start(), extra[0])
    return Step(StepKind.ANSWER, Author.POLICY, text[tag.start() :])


def read_react_text(text: str) -> tuple[Step, ...]:
    """The steps of a ReAct trajectory written as one text (without its prompt); joined, they give `text` again.

    A line of an observation that itself begins with `Thought:` or `Action:` is read as the policy's next turn: in plain
    text nothing tells them apart.

    Raises:
        UnreadableError: a turn is empty, without a call, or goes on after it; or there is no answer.
    """
    steps: list[Step] = []
    start = 0
    for num_turns, observed in enumerate((*_OBSERVED.finditer(text), None)):
        end = observed.start() if observed else len(text)
        if observed is None and steps and not text[start:].strip():
            break
        _expect_no_answer(steps, start)
        steps += _turn(text[start:end], start, _scaffold_opening(text[start:end], num_turns))
        if observed:
            steps.append(
                _observation(observed[0], _FINISH if _has_answer(steps) else steps[-1].tool)
            )
            start = observed.end()
    return _finished(steps, len(text))


def _scaffold_opening(turn: str, num_turns: int) -> str:
    """What the runtime wrote at the start of a turn; empty when the policy itself began with its action."""
    reminder = f"{_THOUGHT} {_REMINDERS.get(num_turns, '')}"
    if num_turns in _REMINDERS and turn.startswith(reminder):
        return reminder
    return _THOUGHT if turn.startswith(_THOUGHT) else ""


def read_react_chat(
    messages: Sequence[tuple[str, str]], *, was_text: bool = False
) -> tuple[Step, ...]:
    """The steps of a ReAct chat from (role, content) pairs, the question's message left out; nothing is put between.

    `was_text`: the policy wrote one text, which was made a chat later; what the runtime wrote in
    that text is the scaffold's here too.

    Raises:
        UnreadableError: roles do not alternate, a turn is empty, without a call, or goes on after it; or no answer.
    """
    steps: list[Step] = []
    start = 0
    for i, (role, content) in enumerate(messages):
        if role != ("user" if i % 2 else "assistant"):
            raise UnreadableError(
                UnreadableReason.WRONG_FORMAT, start, f"role {role!r} in message {i + 1}"
            )
        if role == "assistant":
            _expect_no_answer(steps, start)
            opening = _scaffold_opening(content, i // 2) if was_text else ""
            steps += _turn(content, start, opening)
        else:
            steps.append(_observation(content, _FINISH if _has_answer(steps) else steps[-1].tool))
        start += len(content)
    return _finished(steps, start)


def _turn(text: str, offset: int, opening: str) -> list[Step]:
    """Cut one turn: the scaffold's opening, perhaps a thought, then one call or the answer."""
    if not text[len(opening) :].strip():
        raise UnreadableError(UnreadableReason.EMPTY_TURN, offset + len(opening))
    label = _LABEL.search(text, len(opening))
    thought = text[len(opening) : label.start() if label else len(text)]
    if forged := _FORGED.search(thought):
        place = offset + len(opening) + forged.start()
        raise UnreadableError(UnreadableReason.NESTED_TAG, place, "an observation inside a turn")
    if label is None:
        raise UnreadableError(UnreadableReason.NO_ACTION, offset + len(opening))
    written = text[label.start() :]
    call = _CALL.match(written)
    if call is None:
        raise UnreadableError(UnreadableReason.UNCLOSED_TAG, offset + label.start(), written[:80])
    if written[call.end() :].strip():
        raise UnreadableError(
            UnreadableReason.TEXT_AFTER_ACTION, offset + label.start() + call.end(), written[:80]
        )
    tool, argument = call["tool"].lower(), call["argument"].strip()
    if not argument:
        reason = UnreadableReason.NO_ANSWER if tool == _FINISH else UnreadableReason.EMPTY_TURN
        raise UnreadableError(reason, offset + label.start(), written[:80])
    before = [*([protocol.marker(opening)] if opening else []), *_thought(thought)]
    if tool == _FINISH:
        return [*before, Step(StepKind.ANSWER, Author.POLICY, written)]
    return [*before, Step(StepKind.ACTION, Author.POLICY, written, tool=tool, argument=argument)]


def _thought(text: str) -> list[Step]:
    return [Step(StepKind.THOUGHT, Author.POLICY, text)] if text else []


def _observation(text: str, tool: str | None, passages: tuple[str, ...] = ()) -> Step:
    body = bare_observation(text)
    outcome = Outcome.EMPTY if body in _NOTHING else Outcome.OK
    if "generated an exception: " in body and body.startswith(
        "("
    ):  # FireAct shows its runtime's errors as results
        outcome = Outcome.INVALID if "Unknown tool name" in body else Outcome.ERROR
    return Step(
        StepKind.OBSERVATION,
        Author.ENVIRONMENT,
        text,
        tool=tool,
        outcome=outcome,
        passages=passages,
    )


def _has_answer(steps: Sequence[Step]) -> bool:
    # Nothing may follow an answer but its observation, so the last step tells.
    return bool(steps) and (steps[-1].kind is StepKind.ANSWER or steps[-1].tool == _FINISH)


def _expect_no_answer(steps: Sequence[Step], offset: int) -> None:
    if _has_answer(steps):
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, offset, "a turn after the answer")


def _finished(steps: list[Step], end: int) -> tuple[Step, ...]:
    if not _has_answer(steps):
        reason = (
            UnreadableReason.NO_OBSERVATION
            if steps and steps[-1].kind is StepKind.ACTION
            else UnreadableReason.NO_ANSWER
        )
        raise UnreadableError(reason, end)
    return tuple(steps)


def bare_observation(text: str) -> str:
    """An observation without its dialect's frame, stripped."""
    bare = text.strip()
    for opening, closing in _OBSERVATION_FRAMES:
        if bare.startswith(opening) and bare.endswith(closing):
            return bare.removeprefix(opening).removesuffix(closing).strip()
    return bare


def prediction(steps: Iterable[Step]) -> str | None:
    """The answer of a foreign trajectory, out of its frame and stripped; None when there is none."""
    text = next((step.text for step in steps if step.kind is StepKind.ANSWER), "")
    found = next((match for frame in _ANSWER_FRAMES if (match := frame.search(text))), None)
    return (found[found.re.groups].strip() or None) if found else None


def bare_thought(text: str) -> str:
    """A thought without the label that a chat's policy writes itself."""
    return text.removeprefix(_THOUGHT).lstrip(" ") if text.startswith(_THOUGHT) else text
