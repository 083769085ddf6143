"""Tell a rollout's state as the messages and tool schemas of a chat request.

The loop keeps a context in our tags (`coa/records/protocol.py`). A chat server is sent the prompt
as the user's message, the policy's own messages as it wrote them, and the observations as the
results of its calls. Every call has a result, because servers refuse a conversation in which one is
missing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from coa.errors import ConfigError
from coa.policy import Request, Turns
from coa.policy.chat.families import ChatFamily
from coa.policy.react import THINKING_OPENED, observation_body
from coa.records import protocol
from coa.records.trajectory import Step, StepKind
from coa.tools import ToolSchema

ARGUMENT = "query"
"""The name of a tool's one argument, a text."""
_NOT_CALLED = "Not called: only one call is answered at a time. Call it again if you still need it."

_NO_SCHEMAS: Mapping[str, ToolSchema] = {}

Message = dict[str, Any]


def is_forced(request: Request) -> bool:
    """Return whether the loop has just appended the marker that forces an answer."""
    return request.context.endswith(protocol.ANSWER_MARKER)


def to_messages(
    request: Request, turns: Turns, family: ChatFamily, answer_request: str
) -> list[Message]:
    """Write the messages of a request; `answer_request` is said when a budget is used up.

    A prompt that shows our tags, or a rollout that another policy began, is a `ConfigError`.
    """
    prompt, _, written = request.context.rpartition(THINKING_OPENED)
    steps = protocol.parse(written)
    _require_own(prompt, steps, turns)
    observations = [step for step in steps if step.kind is StepKind.OBSERVATION]
    messages: list[Message] = [{"role": "user", "content": prompt.strip()}]
    for number, own in enumerate(turns.messages):
        message: Message = msgspec.json.decode(own)
        messages.append(message)
        if number < len(observations):
            messages += _results(message, observations[number])
    if turns.begun is not UNSET:
        # The beginning of a thought, for the policy to continue, unless the answer is forced.
        begun: Message = {"role": "assistant", "content": ""}
        begun |= dict.fromkeys(family.returns, turns.begun)
        if not is_forced(request):
            begun |= dict(family.prefix)
        messages.append(begun)
    if is_forced(request):
        messages.append({"role": "user", "content": answer_request})
    return messages


def _require_own(prompt: str, steps: Sequence[Step], turns: Turns) -> None:
    if protocol.break_tags(prompt) != prompt:
        raise ConfigError(
            "the prompt shows our tags, which a chat policy does not write",
            where="the section `prompts`",
            fix="prompts.coa=synth/prompts/chat_coa.txt prompts.cot=synth/prompts/chat_cot.txt",
        )
    is_begun = any(step.kind is not StepKind.MARKER for step in steps)
    if is_begun and not turns.messages and turns.begun is UNSET:
        raise ConfigError(
            "a chat policy cannot continue from the middle of a trajectory",
            expected="rollouts from their beginning",
            fix="continue it with a policy that has raw completions: teacher.policy=completions",
        )


def _results(message: Mapping[str, Any], observation: Step) -> list[Message]:
    """Answer every call of a message: the first with the observation, the others were cut."""
    results: list[Message] = []
    for call in message.get("tool_calls") or ():
        content = _NOT_CALLED if results else observation_body(observation)
        results.append({"role": "tool", "tool_call_id": call["id"], "content": content})
    return results


def tool_schemas(
    tools: Sequence[str],
    descriptions: Mapping[str, str],
    own: Mapping[str, ToolSchema] = _NO_SCHEMAS,
) -> list[dict[str, Any]]:
    """Describe the tools as OpenAI's interface wants them.

    `own` are the schemas of tools that have one; each of the others takes one text.
    """
    one_text = {
        "type": "object",
        "properties": {ARGUMENT: {"type": "string"}},
        "required": [ARGUMENT],
    }
    schemas = []
    for tool in tools:
        schema = own.get(tool, ToolSchema("", one_text))
        function = {
            "name": tool,
            "description": descriptions.get(tool) or schema.description or f"Call the tool {tool}.",
            "parameters": schema.parameters,
        }
        schemas.append({"type": "function", "function": function})
    return schemas
