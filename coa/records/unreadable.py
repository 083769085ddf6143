"""Define why and where a row of a foreign file cannot be used."""

from enum import StrEnum

from coa.errors import InputError


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
    BAD_CALL = "bad_call"
    """A call is not the JSON of a tool's name and arguments, or has a key twice."""
    NO_OBSERVATION = "no_observation"
    """A call has no observation after it."""
    TEXT_AFTER_ACTION = "text_after_action"
    """The policy wrote on after its call or answer in the same turn, so the text is not what was
    run or graded."""
    UNKNOWN_AUTHOR = "unknown_author"
    """The format does not say who wrote a text: a role that is not known, a summary of the
    reasoning, or a user's message amid the policy's turns that is not wholly the response of a
    tool."""
    PARALLEL_CALLS = "parallel_calls"
    """A turn made several calls, of which others than the first were answered or may have been."""
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
