r"""Find the tags of other frameworks in a policy's text, by which foreign tables are recognised.

A row in foreign tags has neither a call nor a boxed answer in our form. It would be graded as a
failure of the policy, though only its tags differ. coa/foreign reads some of these rows.
"""

import json
import re
from collections.abc import Sequence

from coa.records import protocol
from coa.records.grading import boxed_answer
from coa.records.trajectory import Author, Step, StepKind

_FOREIGN_TAG = re.compile(
    r"""
    </?(?:search|information|answer)>                                       # Search-R1, ZeroSearch
  | </?(?:tool_calls?|tool_response|function_calls?)>                       # Qwen
  | <\|(?:begin|end)_of_(?:query|documents)\|>                              # R1-Searcher
  | <\|(?:begin|end)_(?:search_query|search_result)\|>                      # Search-o1
  | <\|(?:begin|end)_(?:click_link|click_result)\|>                         # WebThinker
  | <[|\uff5c]tool[_\u2581]calls?[_\u2581](?:begin|end)[|\uff5c]>           # DeepSeek
  | <function=\w{1,40}>|<\|python_tag\|>|\[TOOL_CALLS\]                     # Llama, Mistral
  | ^Action:[ \t]*[A-Za-z]\w{0,40}[ \t]*(?=\[)|^Action\ Input:              # ReAct, LangChain
    """,
    re.VERBOSE | re.MULTILINE,
)
CODE_OPEN, CODE_CLOSE = "<code>", "</code>"
"""Tongyi's policies write the code of a Python call after the JSON, in these tags."""
_DECODER = json.JSONDecoder()
_MAX_BROKEN = 100
"""After so many pieces that are no JSON a text is left as it is: the JSON decoder counts the lines
before each error, which would take time that grows with the square of the text."""


def hide_json(text: str, call_open: str = "<tool_call>", call_close: str = "</tool_call>") -> str:
    """Blank out the JSON between tags, so that tags inside its strings are not taken for tags.

    What is no JSON object or list, or is not closed after it, stays as it is. The text keeps its
    length, and the tags of the calls their places.
    """
    if call_open not in text:
        return text
    opening = re.compile(rf"{re.escape(call_open)}(?=\s*[\[{{])")
    parts: list[str] = []
    done = 0
    num_broken = 0
    found = opening.search(text)
    while found and num_broken < _MAX_BROKEN:
        start = found.end()
        end = end_of_call(text, start, call_close)
        if end > start:
            parts += [text[done:start], " " * (end - start)]
            done = end
        else:
            num_broken += 1
        found = opening.search(text, max(start, end))
    return "".join([*parts, text[done:]])


def end_of_call(text: str, start: int, call_close: str) -> int:
    """Return where the closing tag of a call in JSON begins, whose opening tag ends at `start`.

    It is negative where no JSON begins, or the tag does not follow it, and the end of the text
    where code begins after it that is never closed.
    """
    end = end_of_json(text, start)
    if end < 0:
        return -1
    if text.startswith(CODE_OPEN, end):
        closing = re.compile(rf"{CODE_CLOSE}\s*(?={re.escape(call_close)})").search(text, end)
        return closing.end() if closing else len(text)
    return end if text.startswith(call_close, end) else -1


def end_of_json(text: str, start: int) -> int:
    """Return where the JSON object or list at a position ends, with the blanks around it.

    A negative number where none begins there.
    """
    begin = _skip_blanks(text, start)
    if not text.startswith(("{", "["), begin):
        return -1
    try:
        _, end = _DECODER.raw_decode(text, begin)
    except (RecursionError, ValueError):
        return -1
    return _skip_blanks(text, end)


def _skip_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def foreign_tags(steps: Sequence[Step]) -> list[str]:
    """List the foreign tags of a row, each once; empty where the row has tags of ours."""
    for step in steps:
        is_call = step.kind is StepKind.ACTION and step.tool
        if is_call and step.text.startswith(protocol.open_tag(step.tool or "")):
            return []
    if boxed_answer(protocol.answer_text(steps)) is not None:
        return []
    found: dict[str, None] = {}
    for step in steps:
        if step.author is Author.POLICY:
            found.update(dict.fromkeys(_FOREIGN_TAG.findall(step.text)))
    return list(found)
