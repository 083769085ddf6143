"""What a person types into the search field, to a tree of phrases: the common part of Elasticsearch's simple syntax.

Words are joined by AND; `|` is OR, `-word` NOT, `"several words"` a phrase, `wor*` a prefix, brackets group.
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
    """Words side by side; with `is_prefix` the last may go on."""

    words: tuple[str, ...]
    is_prefix: bool = False


@dataclass(frozen=True)
class Not:
    """What must not be there."""

    of: "Node"


@dataclass(frozen=True)
class All:
    """What must be there together."""

    of: tuple["Node", ...]


@dataclass(frozen=True)
class Either:
    """Of which one must be there."""

    of: tuple["Node", ...]


Node = Phrase | Not | All | Either


def words(text: str) -> list[str]:
    """The words of a text as they are indexed: lower case, signs aside, each CJK character by itself."""
    return _WORD.findall(text.lower())


@lru_cache(maxsize=256)
def parse(query: str) -> Node | None:
    """The tree of a query; None where it holds no word."""
    tokens = list(_TOKEN.finditer(query[:_MAX_QUERY_CHARS]))
    node, _ = _alternatives(tokens, 0, 0)
    return node


def _alternatives(tokens: list[re.Match[str]], at: int, depth: int) -> tuple[Node | None, int]:
    """What stands between brackets, or the whole, and where it ends."""
    groups: list[list[Node]] = [[]]
    while at < len(tokens) and not (tokens[at]["sign"] == ")" and depth):
        if tokens[at]["sign"] == "|":
            groups.append([])
        elif tokens[at]["sign"] != ")":
            node, at = _operand(tokens, at, depth)
            groups[-1] += [node] if node else []
            continue
        at += 1
    found = [All(tuple(group)) if len(group) > 1 else group[0] for group in groups if group]
    return (Either(tuple(found)) if len(found) > 1 else found[0] if found else None), at


def _operand(tokens: list[re.Match[str]], at: int, depth: int) -> tuple[Node | None, int]:
    token = tokens[at]
    if token["minus"] and at + 1 < len(tokens) and tokens[at + 1]["sign"] not in (")", "|"):
        node, at = _operand(tokens, at + 1, depth)
        return (Not(node) if node else None), at
    if token["sign"] == "(" and depth < 20:
        node, at = _alternatives(tokens, at + 1, depth + 1)
        return node, at + 1
    text = token["phrase"] if token["phrase"] is not None else token["word"] or ""
    found = tuple(words(text))
    return (
        Phrase(found, token["phrase"] is None and text.endswith("*")) if found else None
    ), at + 1


def phrases(node: Node) -> list[Phrase]:
    """The phrases that count for a text, not against it."""
    if isinstance(node, Phrase):
        return [node]
    return (
        [] if isinstance(node, Not) else [phrase for child in node.of for phrase in phrases(child)]
    )


def full_text(phrase: Phrase) -> str:
    """A phrase in the language of FTS5; words hold letters and digits alone, so nothing needs escaping."""
    return f'"{" ".join(phrase.words)}"' + ("*" if phrase.is_prefix else "")
