"""Let a fork begin with one clause that it writes without the tools, and then go on with them.

A fork that is to think first is asked for the rest of a sentence under a prompt that shows no tool.
From then on it has the usual prompt and all tools, so it may act later. A clause ends at the end of
a sentence, or where it opens a call, which ends the rollout.
"""

from collections.abc import Sequence
from dataclasses import replace

from coa.policy import Completion, Encoder, Finish
from coa.protocol import THINK_CLOSE, open_tag
from coa.trajectory import Author

_CALL = open_tag("").removesuffix(">")
"""The beginning of every tool's opening tag."""
STOPS = (_CALL, ". ", ".\n", "? ")
"""The stop strings of a first clause: servers take four at most."""


def calls_tool(clause: str) -> bool:
    """Return whether a clause that a stop string ended opens a call."""
    return clause.endswith(_CALL)


def first_clause(written: Completion, encoder: Encoder) -> Completion:
    """Cut what was written to the clause, without the blanks at its end.

    The policy's count of its context is left out: it counts another prompt than the rollout's. A
    token may hold the end of a sentence and the beginning of the next one, so the clause is
    encoded again. One without a letter or digit is no thought and becomes empty. Some servers drop
    a stop string and report the end of a turn, so a turn that ends inside the thinking counts as a
    clause.
    """
    written = replace(written, num_context_tokens=None)
    has_answered = written.finish is Finish.END and THINK_CLOSE in written.text
    if written.finish is Finish.LENGTH or has_answered or calls_tool(written.text):
        return written
    clause = written.text.partition(THINK_CLOSE)[0].rstrip()
    if not any(character.isalnum() for character in clause):
        clause = ""
    if written.ids is None:
        return replace(written, text=clause, finish=Finish.STOP)
    ids = encoder.encode(clause, author=Author.POLICY) or ()
    return replace(written, text=clause, finish=Finish.STOP, ids=ids, num_tokens=len(ids))


def replace_prompt(
    prompt: str,
    ids: tuple[int, ...] | None,
    id_runs: Sequence[tuple[Author, int]],
    encoder: Encoder,
) -> tuple[int, ...] | None:
    """Replace the prompt's ids at the head of a context; None where there are none.

    Args:
        prompt: The prompt to put there.
        ids: The context.
        id_runs: Who wrote the ids, with their numbers; the first is the prompt.
        encoder: Encodes the prompt.
    """
    prompt_ids = encoder.encode(prompt, is_prompt=True, author=Author.SCAFFOLD)
    if prompt_ids is None or ids is None:
        return None
    _, num_replaced = id_runs[0]
    return prompt_ids + ids[num_replaced:]
