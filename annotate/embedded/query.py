"""Parse what a person types into the search field.

The syntax is the common part of Elasticsearch's simple one. Words are joined by AND; `|` is OR,
`-word` NOT, `"several words"` a phrase, `wor*` a prefix, and brackets group.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(
    r'(?P<sign>[|()])|(?P<minus>-)(?=\S)|"(?P<phrase>[^"]*)"(?:~\d+)?|(?P<word>[^\s"()|]+)'
)
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_MAX_QUERY_CHARS = 2_000


@dataclass(frozen=True)
class Phrase:
    """Words side by side; with `is_prefix` the last one is the beginning of a word."""

    words: tuple[str, ...]
    is_prefix: bool = False


@dataclass(frozen=True)
class Not:
    """A part that must not be there."""

    of: "Node"


@dataclass(frozen=True)
class All:
    """Parts that must all be there."""

    of: tuple["Node", ...]


@dataclass(frozen=True)
class Either:
    """Parts of which one must be there."""

    of: tuple["Node", ...]


Node = Phrase | Not | All | Either


def words(text: str) -> list[str]:
    """Return the words of a text as they are indexed.

    They are in lower case and without signs; each CJK character is a word by itself.
    """
    return _WORD.findall(text.lower())


@lru_cache(maxsize=256)
def parse(query: str) -> Node | None:
    """Parse a query into a tree; None where it holds no word."""
    tokens = list(_TOKEN.finditer(query[:_MAX_QUERY_CHARS]))
    node, _ = _alternatives(tokens, 0, 0)
    return node


def _alternatives(tokens: list[re.Match[str]], at: int, depth: int) -> tuple[Node | None, int]:
    """Parse what stands between brackets, or the whole; also return where it ends."""
    groups: list[list[Node]] = [[]]
    while at < len(tokens):
        sign = tokens[at]["sign"]
        if sign == ")" and depth:
            break
        if sign == "|":
            groups.append([])
            at += 1
        elif sign == ")":
            at += 1
        else:
            node, at = _operand(tokens, at, depth)
            if node:
                groups[-1].append(node)
    found: list[Node] = []
    for group in groups:
        if group:
            found.append(All(tuple(group)) if len(group) > 1 else group[0])
    if not found:
        return None, at
    if len(found) == 1:
        return found[0], at
    return Either(tuple(found)), at


def _operand(tokens: list[re.Match[str]], at: int, depth: int) -> tuple[Node | None, int]:
    """Parse a phrase, a negated part or a group in brackets; also return where it ends."""
    token = tokens[at]
    has_next = at + 1 < len(tokens)
    if token["minus"] and has_next and tokens[at + 1]["sign"] not in (")", "|"):
        node, at = _operand(tokens, at + 1, depth)
        return (Not(node) if node else None), at
    if token["sign"] == "(" and depth < 20:
        node, at = _alternatives(tokens, at + 1, depth + 1)
        return node, at + 1
    is_quoted = token["phrase"] is not None
    text = token["phrase"] if is_quoted else token["word"] or ""
    found = tuple(words(text))
    if not found:
        return None, at + 1
    return Phrase(found, is_prefix=not is_quoted and text.endswith("*")), at + 1


def phrases(node: Node) -> list[Phrase]:
    """Return the phrases that count for a text, not against it."""
    if isinstance(node, Phrase):
        return [node]
    found: list[Phrase] = []
    if not isinstance(node, Not):
        for child in node.of:
            found += phrases(child)
    return found


def full_text(phrase: Phrase) -> str:
    """Write a phrase in the language of FTS5.

    Words hold letters and digits alone, so nothing needs escaping.
    """
    quoted = f'"{" ".join(phrase.words)}"'
    return quoted + "*" if phrase.is_prefix else quoted
