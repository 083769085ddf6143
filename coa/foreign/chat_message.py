"""Define the record of one message of a foreign chat, whatever the format that it was read from."""

from dataclasses import dataclass
from enum import StrEnum

from coa.foreign.unreadable import UnreadableError, UnreadableReason


class Role(StrEnum):
    """The author of a message, as its file names it."""

    SYSTEM = "system"
    """The runtime."""
    USER = "user"
    """Whoever asks: a person, or the runtime."""
    ASSISTANT = "assistant"
    """The policy."""
    TOOL = "tool"
    """The environment."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool."""

    name: str
    """The tool's name in the file."""
    argument: str
    """What our tags hold: the one text that is given, or else the arguments as JSON."""
    arguments: str
    """A JSON object as text: the file's own text, or one written after the object in the file."""
    call_id: str = ""
    """The id by which a tool's message names the call; empty where the file has none."""
    surface: str = ""
    """The call as the policy wrote it in its text; empty where the file has it in a field."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    number: int
    """The position among the messages of its row, from 1."""
    role: Role
    content: str
    thoughts: tuple[str, ...] = ()
    """The policy's reasoning, in its order, before the content."""
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    """In a tool's message: the id of the call that it answers; empty where the file has none."""
    is_error: bool = False
    """In a tool's message: whether the file says that the tool failed."""


def refusal(
    reason: UnreadableReason, number: int, character: int = 0, detail: str = ""
) -> UnreadableError:
    """Make the error for a message that cannot be read.

    Args:
        reason: Why.
        number: The message.
        character: Where in the text of the message.
        detail: More about the reason.
    """
    return UnreadableError(reason, character, f"message {number}: {detail}".removesuffix(": "))
