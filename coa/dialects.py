r"""Read trajectories in other projects' tags into steps, with an author for every character.

Only this file reads foreign tags (coa/own_tags.py turns such steps into ours). Steps keep the
foreign text verbatim: joined, they give it again. There are two dialects:

R1-Searcher  A call is a query in its tags. The observation is the documents with the blanks around
             them. The thinking ends as ours does, and the answer has a tag of its own. The prompt
             is not in the released files.
ReAct        As FireAct's `generation.py` runs it: turns of `Thought:` and `Action: tool[argument]`,
             one `Observation:` after each; `Action: finish[answer]` ends the text. In chats the
             assistant's messages are wholly the policy's. In plain text the runtime writes the
             first `Thought:` of each turn, and also a fixed sentence after the 5th action (to
             reflect) and the 9th (to wrap up): these are the scaffold's. (Single spaces and a
             missing `Action:` that its loop adds are taken for the policy's.)

A text that allows two readings is refused: `UnreadableError` says why and where.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from coa import protocol
from coa.errors import InputError
from coa.trajectory import Author, Outcome, Step, StepKind


class UnreadableReason(StrEnum):
    """The reason why a foreign row cannot be used."""

    TOO_LARGE = "too_large"
    """The line is longer than `max_row_bytes`; it was never held in memory."""
    NULL_BYTE = "null_byte"
    """A text holds a null character, which C programs take for its end."""
    NOT_UTF8 = "not_utf8"
    """The line is not UTF-8, or a text holds half of a surrogate pair."""
    NOT_JSON = "not_json"
    """The line is not a JSON object, or one nested too deep."""
    WRONG_FORMAT = "wrong_format"
    """The row has the columns of no known format or not those of the format asked for, or its roles
    are out of order."""
    NO_QUESTION = "no_question"
    """The question is missing or blank."""
    ID_CLASH = "id_clash"
    """An earlier row has the same id and another question."""
    UNCLOSED_TAG = "unclosed_tag"
    """A query, a block of documents, an answer or a bracket is never closed."""
    NESTED_TAG = "nested_tag"
    """A tag is inside another one, so that its meaning is ambiguous."""
    MISPLACED_TAG = "misplaced_tag"
    """A tag is where the dialect allows none."""
    EMPTY_TURN = "empty_turn"
    """The policy wrote nothing in its turn, or called a tool with nothing."""
    NO_ACTION = "no_action"
    """A turn has neither a call nor an answer."""
    NO_OBSERVATION = "no_observation"
    """A call has no observation after it."""
    TEXT_AFTER_ACTION = "text_after_action"
    """The policy wrote on after its call or answer in the same turn, so the text is not what was
    run or graded."""
    NO_ANSWER = "no_answer"
    """The trajectory ends without an answer, or with a blank one."""
    NO_GOLD_ANSWER = "no_gold_answer"
    """No row so far has a gold answer for the question, so the answer cannot be graded."""
    SPLIT_CLASH = "split_clash"
    """An earlier file has the same question in another split."""
    NOT_REWRITTEN = "not_rewritten"
    """Our tags would not say the same: read back, they give other steps or another answer."""


class UnreadableError(InputError):
    """A foreign text cannot be read; the error says why, and at which character of the text."""

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
_R1_TAGS = (*_PARTNERS, *_PARTNERS.values(), protocol.THINK_CLOSE)
_R1_TAG = re.compile("|".join(re.escape(tag) for tag in _R1_TAGS))
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
"""The sentences that FireAct's runtime writes after so many turns, always in the released files.

A policy that was trained on them may write them elsewhere.
"""
_LABEL = re.compile(r"^Action:", re.MULTILINE)
_CALL = re.compile(r"Action:[ \t]*(?P<tool>[A-Za-z][A-Za-z0-9]*)[ \t]*\[(?P<argument>[^\n]*)\]")
_FORGED = re.compile(r"^Observation:", re.MULTILINE)
_OBSERVED = re.compile(r"\nObservation:(?:.*?)(?:\n(?=Thought:|Action:)|\n?\Z)", re.DOTALL)

# The text around an observation's body and around an answer. The frames of no two dialects begin
# alike.
_OBSERVATION_FRAMES = ((_DOCUMENTS, _DOCUMENTS_END), (_OBSERVATION, ""))
_ANSWER_FRAMES = (re.compile(rf"{_ANSWER}(.*){_ANSWER_END}", re.DOTALL), _CALL)
_NOTHING = frozenset({"", "None"})


def read_r1_searcher(text: str) -> tuple[Step, ...]:
    """Read an R1-Searcher trajectory into steps; joined, they give `text` again.

    Raises:
        UnreadableError: A tag is unclosed, nested or out of place, or there is no answer.
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
    """Read the call that begins at `tag` and its observation."""
    query_end = _partner(tag, tags)
    argument = text[tag.end() : query_end.start()].strip()
    if not argument:
        raise UnreadableError(UnreadableReason.EMPTY_TURN, tag.start(), "an empty query")
    documents = next(tags, None)
    if documents is None or documents[0] != _DOCUMENTS:
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, query_end.end())
    if text[query_end.end() : documents.start()].strip():
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, query_end.end())
    end = _partner(documents, tags).end()
    # Up to two line breaks after the documents belong to the template.
    after = text[end : end + 2]
    end += len(after) - len(after.lstrip("\n"))
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
    """Find the titles of the documents shown."""
    for head in _R1_DOCUMENT.finditer(documents):
        title = head["labelled"] or head["bare"] or ""
        if head["quote"]:
            title = title.replace('""', '"')
        if title.strip():
            yield title.strip()


def _partner(tag: re.Match[str], tags: Iterator[re.Match[str]]) -> re.Match[str]:
    """Return the next tag, which must close `tag`."""
    closing = next(tags, None)
    if closing is None:
        raise UnreadableError(UnreadableReason.UNCLOSED_TAG, tag.start(), tag[0])
    if closing[0] != _PARTNERS[tag[0]]:
        raise UnreadableError(
            UnreadableReason.NESTED_TAG, closing.start(), f"{closing[0]} inside {tag[0]}"
        )
    return closing


def _r1_answer(text: str, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> Step:
    """Read the answer, which begins with `tag`: its own tag or the end of the thinking."""
    opening: re.Match[str] | None = tag
    if tag[0] == protocol.THINK_CLOSE:
        opening = next(tags, None)
    if opening is None:
        raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))
    if opening[0] != _ANSWER:
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, opening.start(), opening[0])
    closing = _partner(opening, tags)
    if not text[opening.end() : closing.start()].strip():
        raise UnreadableError(UnreadableReason.NO_ANSWER, opening.start())
    extra = next(tags, None)
    if extra is not None:
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, extra.start(), extra[0])
    return Step(StepKind.ANSWER, Author.POLICY, text[tag.start() :])


def read_react_text(text: str) -> tuple[Step, ...]:
    """Read a ReAct trajectory that is one text (without its prompt) into steps.

    Joined, the steps give `text` again. A line of an observation that itself begins with `Thought:`
    or `Action:` is read as the policy's next turn: in plain text nothing tells them apart.

    Raises:
        UnreadableError: A turn is empty, has no call or goes on after it; or there is no answer.
    """
    steps: list[Step] = []
    start = 0
    for num_turns, observed in enumerate((*_OBSERVED.finditer(text), None)):
        end = observed.start() if observed else len(text)
        if observed is None and steps and not text[start:].strip():
            break
        _expect_no_answer(steps, start)
        turn = text[start:end]
        steps += _turn(turn, start, _scaffold_opening(turn, num_turns))
        if observed:
            steps.append(_observation(observed[0], _observed_tool(steps)))
            start = observed.end()
    return _finished(steps, len(text))


def _observed_tool(steps: Sequence[Step]) -> str | None:
    """Return the tool whose observation follows the steps."""
    return _FINISH if _has_answer(steps) else steps[-1].tool


def _scaffold_opening(turn: str, num_turns: int) -> str:
    """Return the text that the runtime wrote at the start of a turn.

    It is empty when the policy began the turn with its action.
    """
    reminder = f"{_THOUGHT} {_REMINDERS.get(num_turns, '')}"
    if num_turns in _REMINDERS and turn.startswith(reminder):
        return reminder
    return _THOUGHT if turn.startswith(_THOUGHT) else ""


def read_react_chat(
    messages: Sequence[tuple[str, str]], *, was_text: bool = False
) -> tuple[Step, ...]:
    """Read a ReAct chat into steps; joined, they give the contents of the messages, one by one.

    Args:
        messages: Pairs of role and content, without the message that asks the question.
        was_text: Whether the policy wrote one text, which was made a chat later. Then the texts of
            the runtime are the scaffold's, as in `read_react_text`.

    Raises:
        UnreadableError: Roles do not alternate; a turn is empty, has no call or goes on after it;
            or there is no answer.
    """
    steps: list[Step] = []
    start = 0
    for i, (role, content) in enumerate(messages):
        expected = "user" if i % 2 else "assistant"
        if role != expected:
            raise UnreadableError(
                UnreadableReason.WRONG_FORMAT, start, f"role {role!r} in message {i + 1}"
            )
        if role == "assistant":
            _expect_no_answer(steps, start)
            opening = _scaffold_opening(content, i // 2) if was_text else ""
            steps += _turn(content, start, opening)
        else:
            steps.append(_observation(content, _observed_tool(steps)))
        start += len(content)
    return _finished(steps, start)


def _turn(text: str, offset: int, opening: str) -> list[Step]:
    """Cut one turn: the scaffold's opening, perhaps a thought, then one call or the answer.

    Args:
        text: The turn.
        offset: Where it begins in the whole text, for errors.
        opening: What the scaffold wrote at its start.
    """
    if not text[len(opening) :].strip():
        raise UnreadableError(UnreadableReason.EMPTY_TURN, offset + len(opening))
    label = _LABEL.search(text, len(opening))
    end = label.start() if label else len(text)
    thought = text[len(opening) : end]
    forged = _FORGED.search(thought)
    if forged:
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
    tool = call["tool"].lower()
    argument = call["argument"].strip()
    if not argument:
        reason = UnreadableReason.NO_ANSWER if tool == _FINISH else UnreadableReason.EMPTY_TURN
        raise UnreadableError(reason, offset + label.start(), written[:80])
    steps = [protocol.marker(opening)] if opening else []
    steps += _thought(thought)
    if tool == _FINISH:
        steps.append(Step(StepKind.ANSWER, Author.POLICY, written))
    else:
        action = Step(StepKind.ACTION, Author.POLICY, written, tool=tool, argument=argument)
        steps.append(action)
    return steps


def _thought(text: str) -> list[Step]:
    return [Step(StepKind.THOUGHT, Author.POLICY, text)] if text else []


def _observation(text: str, tool: str | None, passages: tuple[str, ...] = ()) -> Step:
    return Step(
        StepKind.OBSERVATION,
        Author.ENVIRONMENT,
        text,
        tool=tool,
        outcome=_outcome(bare_observation(text)),
        passages=passages,
    )


def _outcome(body: str) -> Outcome:
    """Tell by its body what an observation says of the call."""
    # FireAct shows the errors of its runtime as results.
    if body.startswith("(") and "generated an exception: " in body:
        return Outcome.INVALID if "Unknown tool name" in body else Outcome.ERROR
    return Outcome.EMPTY if body in _NOTHING else Outcome.OK


def _has_answer(steps: Sequence[Step]) -> bool:
    if not steps:
        return False
    # Only its observation may follow an answer, so the last step tells.
    last = steps[-1]
    return last.kind is StepKind.ANSWER or last.tool == _FINISH


def _expect_no_answer(steps: Sequence[Step], offset: int) -> None:
    if _has_answer(steps):
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, offset, "a turn after the answer")


def _finished(steps: list[Step], end: int) -> tuple[Step, ...]:
    """Return the steps of a whole text; refuse one that ends without an answer."""
    if _has_answer(steps):
        return tuple(steps)
    if steps and steps[-1].kind is StepKind.ACTION:
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, end)
    raise UnreadableError(UnreadableReason.NO_ANSWER, end)


def bare_observation(text: str) -> str:
    """Return an observation without its dialect's frame, stripped."""
    bare = text.strip()
    for opening, closing in _OBSERVATION_FRAMES:
        if bare.startswith(opening) and bare.endswith(closing):
            return bare.removeprefix(opening).removesuffix(closing).strip()
    return bare


def prediction(steps: Iterable[Step]) -> str | None:
    """Return the answer of a foreign trajectory without its frame; None when there is none."""
    for step in steps:
        if step.kind is StepKind.ANSWER:
            return _unframed_answer(step.text)
    return None


def _unframed_answer(text: str) -> str | None:
    for frame in _ANSWER_FRAMES:
        found = frame.search(text)
        if found:
            last_group: str = found[frame.groups]
            return last_group.strip() or None
    return None


def bare_thought(text: str) -> str:
    """Return a thought without the label that a chat's policy writes itself."""
    if not text.startswith(_THOUGHT):
        return text
    return text.removeprefix(_THOUGHT).lstrip(" ")
