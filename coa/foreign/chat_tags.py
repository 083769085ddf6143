"""Read the tags inside a chat's messages: of the thinking, of calls and of their responses.

Tongyi DeepResearch and WebExplorer write calls as JSON in `<tool_call>` into the text of their
turns, and their runtime sends the result as a user's message in `<tool_response>`. Qwen's chat
template writes the same tags.
"""

import re
from dataclasses import replace
from itertools import islice

from coa.foreign.chat_calls import read_call_text
from coa.foreign.chat_message import Call, Message, Role, refusal
from coa.foreign.tag_families import TOOL_CALL_TEXT
from coa.foreign.unreadable import UnreadableReason
from coa.protocol import THINK_CLOSE, THINK_OPEN

((_, (TOOL_CALL_OPEN, TOOL_CALL_CLOSE)),) = TOOL_CALL_TEXT.calls
TOOL_RESPONSE_OPEN, TOOL_RESPONSE_CLOSE = TOOL_CALL_TEXT.observation
_ANSWER_TAG = re.compile("</?answer>")


def without_tags(message: Message) -> Message:
    """Take the thought and the call out of an assistant's content, tags included.

    Joined, thoughts, content and the call's text give the content again.

    Raises:
        UnreadableError: A tag is unclosed, doubled or inside another one.
    """
    if message.role is not Role.ASSISTANT:
        return message
    thought, start = leading_thought(message)
    thoughts = message.thoughts
    if thought and not _repeats(thought, thoughts):
        thoughts = (*thoughts, thought)
    content = message.content[start:]
    forged = content.find(TOOL_RESPONSE_OPEN)
    if forged >= 0:
        detail = "an observation inside the policy's turn"
        raise refusal(UnreadableReason.NESTED_TAG, message.number, start + forged, detail)
    calls = message.calls
    if not calls:
        content, calls = _split_call(content, start, message.number)
    if not calls:
        _check_answer(content, start, message.number)
    return replace(message, content=content, thoughts=thoughts, calls=calls)


def leading_thought(message: Message) -> tuple[str, int]:
    """Return the thought at the start of a content, with its tags, and where it ends.

    The opening tag may be missing, since many templates write it into the prompt.
    """
    content = message.content
    closing = content.find(THINK_CLOSE)
    if closing < 0:
        opening = content.find(THINK_OPEN)
        if opening >= 0:
            raise refusal(UnreadableReason.UNCLOSED_TAG, message.number, opening, THINK_OPEN)
        return "", 0
    end = closing + len(THINK_CLOSE)
    opening = content.rfind(THINK_OPEN, 0, closing)
    if opening >= 0 and content[:opening].strip():
        raise refusal(UnreadableReason.NESTED_TAG, message.number, opening, THINK_OPEN)
    for tag in (THINK_OPEN, THINK_CLOSE):
        second = content.find(tag, end)
        if second >= 0:
            raise refusal(UnreadableReason.MISPLACED_TAG, message.number, second, tag)
    for tag in (TOOL_CALL_OPEN, TOOL_RESPONSE_OPEN):
        inner = content.find(tag, 0, closing)
        if inner >= 0:
            raise refusal(UnreadableReason.NESTED_TAG, message.number, inner, tag)
    return content[:end], end


def _repeats(thought: str, thoughts: tuple[str, ...]) -> bool:
    """Return whether the content only repeats what a field of reasoning holds."""
    bare = thought.strip().removeprefix(THINK_OPEN).removesuffix(THINK_CLOSE)
    return bool(thoughts) and bare.split() == "".join(thoughts).split()


def _split_call(content: str, offset: int, number: int) -> tuple[str, tuple[Call, ...]]:
    """Split a content into the text before a call and the call; no call where there is none."""
    start = content.find(TOOL_CALL_OPEN)
    end = content.find(TOOL_CALL_CLOSE)
    if start < 0:
        if end >= 0:
            raise refusal(UnreadableReason.MISPLACED_TAG, number, offset + end, TOOL_CALL_CLOSE)
        return content, ()
    second = content.find(TOOL_CALL_OPEN, start + 1)
    if second >= 0:
        detail = "a second call in one turn"
        raise refusal(UnreadableReason.PARALLEL_CALLS, number, offset + second, detail)
    if end < start:
        raise refusal(UnreadableReason.UNCLOSED_TAG, number, offset + start, TOOL_CALL_OPEN)
    body_start = start + len(TOOL_CALL_OPEN)
    body = content[body_start:end]
    after = end + len(TOOL_CALL_CLOSE)
    if content[after:].strip():
        detail = content[after : after + 80]
        raise refusal(UnreadableReason.TEXT_AFTER_ACTION, number, offset + after, detail)
    call = read_call_text(body, number, offset + body_start, surface=content[start:])
    return content[:start], (call,)


def _check_answer(content: str, offset: int, number: int) -> None:
    """Refuse an answer whose tags allow two readings.

    Raises:
        UnreadableError: They are not one opening and one closing tag in this order.
    """
    tags = list(islice(_ANSWER_TAG.finditer(content), 3))
    names = [tag[0] for tag in tags]
    if names in ([], ["<answer>", "</answer>"]):
        return
    is_open = names == ["<answer>"]
    reason = UnreadableReason.UNCLOSED_TAG if is_open else UnreadableReason.MISPLACED_TAG
    raise refusal(reason, number, offset + tags[-1].start(), tags[-1][0])


def is_tool_response(content: str) -> bool:
    """Return whether a message is wholly one response of a tool, in its tags."""
    text = content.strip()
    is_framed = text.startswith(TOOL_RESPONSE_OPEN) and text.endswith(TOOL_RESPONSE_CLOSE)
    num_tags = text.count(TOOL_RESPONSE_OPEN) + text.count(TOOL_RESPONSE_CLOSE)
    return is_framed and num_tags == 2
