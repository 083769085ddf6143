"""Word the questions of a probe, and answer them for scripts, which are no models.

A question is short, and any model answers it: what is looked at is what the server makes of it.
"""

import random

from coa import protocol
from coa.policy import Request
from coa.policy.react import THINKING_OPENED

STORY = "Once upon a time there was"
"""A text that goes on in many ways."""
STORY_TOKENS = 16
"""How much of it is asked for."""
TOLD_TOKENS = 24
"""The same for chat, where a thought may come first."""
TURN_TOKENS = 512
"""The room for a turn of chat: models that reason need it, and most use a tenth of it."""
_FACT = "the capital of France"
_RESULT = "Paris is the capital of France."
_SCRIPT = (
    " an old man by the river who had a small boat, two dogs and a garden full of apple trees."
)


def call_question(tool: str) -> str:
    """Ask for one call of a tool."""
    return f"Call the tool {tool} once, now, to look up {_FACT}. Then answer in one word."


def plain_question() -> str:
    """Ask for an answer without tools."""
    return f"Think for a moment, then name {_FACT} in one word."


def story_question() -> str:
    """Ask for a text that differs from one draw to the next."""
    return f"Tell a story. Begin with: {STORY}"


def result_of_call(tool: str) -> str:
    """Write what the tool answers."""
    return protocol.observation_text(tool, _RESULT)


def scripted_answer(request: Request, offered: str) -> str | None:
    """Answer a probe's question as a script; None where the request is none.

    Args:
        request: The request.
        offered: The tool that the script calls if it is offered.
    """
    if request.context.startswith(STORY):
        told = request.context.removeprefix(STORY)
        return _story(request).removeprefix(told)
    prompt, opened, written = request.context.rpartition(THINKING_OPENED)
    if opened and STORY in prompt:
        return f"Any story will do.{protocol.THINK_CLOSE}\n\n{STORY}{_story(request)}"
    if not opened or _FACT not in prompt:
        return None
    if request.context.endswith(protocol.ANSWER_MARKER):
        return "Paris}"
    is_offered = protocol.open_tag(offered) in prompt
    if is_offered and not written:
        call = f"{protocol.open_tag(offered)} {_FACT} {protocol.close_tag(offered)}"
        return f"I do not know it for certain. {call}"
    return f"It is Paris.{protocol.THINK_CLOSE}\n\n\\boxed{{Paris}}"


def _story(request: Request) -> str:
    """Tell the same story at temperature 0, else one that follows from the seed."""
    if not request.temperature:
        return _SCRIPT
    words = _SCRIPT.split()
    random.Random(request.seed).shuffle(words)
    return f" {' '.join(words)}"
