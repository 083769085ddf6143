"""Find chats that hold a whole trajectory, with its observations, in one message of the policy.

Search-R1's and other texts with tags are published so. Their roles do not say who wrote what, but
their tags do, so such a row is read as a text.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from coa.foreign.autocoa import has_own_tags
from coa.foreign.chat_fields import role_name
from coa.foreign.tag_families import ANSWER_TAGS
from coa.foreign.tagged_text import find_tags

_POLICY, _USER = frozenset({"assistant", "gpt"}), frozenset({"user", "human"})


class SingleTurn(NamedTuple):
    """A chat with one message of the policy, whose text has the tags of a trajectory."""

    asked: str
    """The last message of the user."""
    text: str


def chat_items(row: Mapping[str, Any]) -> list[Any] | None:
    """Return the messages of a row; None where it has none."""
    for name in ("messages", "conversations"):
        found = row.get(name)
        if isinstance(found, list):
            return found
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*prompt, *completion]
    return None


def find_single_turn(row: Mapping[str, Any]) -> SingleTurn | None:
    """Find the only turn of the policy, if it holds calls in tags; None for any other row."""
    items = chat_items(row) or []
    texts = _texts_of(items, _POLICY)
    if len(texts) != 1 or not has_calls_in_tags(texts[0]):
        return None
    (text,) = texts
    is_last = _texts_of(items[-1:], _POLICY) == [text]
    if not is_last or items[-1].get("tool_calls"):
        return None
    asked = _texts_of(items, _USER)
    return SingleTurn(asked[-1] if asked else "", text)


def _texts_of(items: Sequence[Any], roles: frozenset[str]) -> list[str]:
    """Return the texts of the messages with one of these roles; empty where one is no text."""
    texts = []
    for item in items:
        name = role_name(item) if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in roles:
            continue
        text = item.get("content", item.get("value"))
        if not isinstance(text, str):
            return []
        texts.append(text)
    return texts


def has_calls_in_tags(text: str) -> bool:
    """Return whether a text has tags of a text format, other than those of an answer."""
    return bool(find_tags(text) - set(ANSWER_TAGS)) or has_own_tags(text)
