r"""Find the tags of other frameworks in a policy's text, by which foreign tables are recognised.

A row in foreign tags has neither a call nor a boxed answer in our form. It would be graded as a
failure of the policy, though only its tags differ. coa/foreign reads some of these rows.
"""

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


def foreign_tags(steps: Sequence[Step]) -> list[str]:
    """List the foreign tags of a row, each once; empty where the row has tags of ours."""
    if _speaks_our_tags(steps):
        return []
    found: dict[str, None] = {}
    for step in steps:
        if step.author is Author.POLICY:
            found.update(dict.fromkeys(_FOREIGN_TAG.findall(step.text)))
    return list(found)


def _speaks_our_tags(steps: Sequence[Step]) -> bool:
    for step in steps:
        is_call = step.kind is StepKind.ACTION and step.tool
        if is_call and step.text.startswith(protocol.open_tag(step.tool or "")):
            return True
    return boxed_answer(protocol.answer_text(steps)) is not None
