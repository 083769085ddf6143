"""List the families of chat servers: what each sends, wants back, honours and can continue.

A new family is one record in `FAMILIES` and one value of `FamilyName`. docs/teachers.md has the
table, and says which records were run and which were only read in documentation and sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from coa.errors import ConfigError


class FamilyName(StrEnum):
    """Which family of chat servers is asked."""

    VLLM = "vllm"
    """vLLM, with a tool parser and a reasoning parser switched on."""
    SGLANG = "sglang"
    """SGLang, with the same two parsers."""
    DEEPSEEK = "deepseek"
    """DeepSeek's own service."""
    OPENROUTER = "openrouter"
    """OpenRouter; also MiniMax's own service."""
    PLAIN = "plain"
    """Any other server with OpenAI's chat; most of them hide the reasoning."""
    KIMI = "kimi"
    """Moonshot's own service."""
    GLM = "glm"
    """Zhipu's own service."""
    QWEN = "qwen"
    """Alibaba's own service."""
    GPT_OSS = "gpt_oss"
    """gpt-oss behind vLLM, whose reasoning is the channel `analysis`."""
    OPENAI = "openai"
    """OpenAI's own service with a reasoning model, whose reasoning it does not show."""
    GEMINI = "gemini"
    """Google's own service at its address for OpenAI's interface (`.../v1beta/openai`)."""
    ANTHROPIC = "anthropic"
    """Anthropic's own service at its address for OpenAI's interface; it shows no reasoning."""


class ForkWay(StrEnum):
    """A way to continue a trajectory otherwise than its policy did."""

    TEXT = "text"
    """At any character: a policy of raw completions continues the text itself. No chat server
    can do it."""
    TOOLS_WITHHELD = "tools withheld"
    """Between turns: the next turn is asked for without tools."""
    FORCED_CALL = "forced call"
    """Between turns: `tool_choice` names the tool that must be called."""
    PREFIX = "prefix"
    """Inside a thought: the last message is its beginning, and the policy continues it."""


@dataclass(frozen=True, slots=True)
class ChatFamily:
    """What is known of one family of chat servers."""

    returns: tuple[str, ...]
    """Fields of its own earlier messages that the server wants back, unchanged."""
    sampling: tuple[str, ...]
    """Sampling settings that it honours; the others are not sent."""
    forks: tuple[ForkWay, ...]
    """What it can do at a fork."""
    switches_off_parallel_calls: bool = True
    """Whether it honours `parallel_tool_calls: false`; further calls are cut anyway."""
    limit_field: str = "max_tokens"
    """The field of a request that limits what is written."""
    always: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every request."""
    forced: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a request for a forced answer: they keep it from thinking first."""
    prefix: Mapping[str, Any] = field(default_factory=dict)
    """For `ForkWay.PREFIX`: fields of a message whose reasoning is only begun."""
    prefix_address: str = ""
    """For `ForkWay.PREFIX`: how the server's address must end."""


REASONING = ("reasoning", "reasoning_content")
"""Fields of a reply's message that hold the reasoning, whatever the family, because versions of one
server differ. The first with a text counts."""
DETAILS = "reasoning_details"
"""OpenRouter's list of typed pieces of reasoning, some of them summaries or encrypted."""
_OPENAI_SAMPLING = ("temperature", "top_p", "seed")
_BETWEEN_TURNS = (ForkWay.TOOLS_WITHHELD, ForkWay.FORCED_CALL)
_NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}

FAMILIES: Mapping[FamilyName, ChatFamily] = {
    FamilyName.VLLM: ChatFamily(
        returns=("reasoning",),
        sampling=_OPENAI_SAMPLING,
        forks=_BETWEEN_TURNS,
        forced=_NO_THINKING,
    ),
    FamilyName.SGLANG: ChatFamily(
        returns=("reasoning_content",),
        sampling=_OPENAI_SAMPLING,
        forks=_BETWEEN_TURNS,
        always={"separate_reasoning": True},
        forced=_NO_THINKING,
    ),
    FamilyName.DEEPSEEK: ChatFamily(
        returns=("reasoning_content",),
        sampling=(),
        forks=(ForkWay.TOOLS_WITHHELD, ForkWay.PREFIX),
        switches_off_parallel_calls=False,
        always={"thinking": {"type": "enabled"}},
        forced={"thinking": {"type": "disabled"}},
        prefix={"prefix": True},
        prefix_address="/beta",
    ),
    FamilyName.OPENROUTER: ChatFamily(
        returns=("reasoning", DETAILS),
        sampling=_OPENAI_SAMPLING,
        forks=_BETWEEN_TURNS,
        always={"usage": {"include": True}},
        forced={"reasoning": {"enabled": False}},
    ),
    FamilyName.PLAIN: ChatFamily(
        returns=(),
        sampling=_OPENAI_SAMPLING,
        forks=_BETWEEN_TURNS,
    ),
    FamilyName.KIMI: ChatFamily(
        returns=("reasoning_content",),
        sampling=(),
        forks=(ForkWay.TOOLS_WITHHELD,),
        switches_off_parallel_calls=False,
    ),
    FamilyName.GLM: ChatFamily(
        returns=("reasoning_content",),
        sampling=("temperature", "top_p"),
        forks=(ForkWay.TOOLS_WITHHELD,),
        switches_off_parallel_calls=False,
        always={"thinking": {"type": "enabled", "clear_thinking": False}},
        forced={"thinking": {"type": "disabled"}},
    ),
    FamilyName.QWEN: ChatFamily(
        returns=("reasoning_content",),
        sampling=_OPENAI_SAMPLING,
        forks=(ForkWay.TOOLS_WITHHELD,),
        always={"enable_thinking": True, "preserve_thinking": True},
        forced={"enable_thinking": False},
    ),
    FamilyName.GPT_OSS: ChatFamily(
        returns=("reasoning",),
        sampling=_OPENAI_SAMPLING,
        forks=(ForkWay.TOOLS_WITHHELD,),
        switches_off_parallel_calls=False,
    ),
    FamilyName.OPENAI: ChatFamily(
        returns=(),
        sampling=(),
        forks=_BETWEEN_TURNS,
        switches_off_parallel_calls=False,
        limit_field="max_completion_tokens",
    ),
    # Its calls bear signatures that must come back, and no record keeps them: it cannot fork.
    FamilyName.GEMINI: ChatFamily(
        returns=(),
        sampling=("temperature", "top_p"),
        forks=(),
        switches_off_parallel_calls=False,
    ),
    # It refuses a conversation with calls where no tool is offered, so tools are never withheld.
    FamilyName.ANTHROPIC: ChatFamily(
        returns=(),
        sampling=(),
        forks=(ForkWay.FORCED_CALL,),
    ),
}


class Waiver(StrEnum):
    """A fault of a chat server that a run accepts."""

    NO_REASONING = "no_reasoning"
    """It shows no reasoning: thoughts are what it says beside its calls, or nothing."""
    SUMMARY = "summary"
    """It shows a summary of its reasoning, or encrypted text."""
    OTHER_MODEL = "other_model"
    """It names another model than the one that was asked for."""


SAID = {
    Waiver.NO_REASONING: "the server shows no reasoning",
    Waiver.SUMMARY: "the server shows only a summary of the reasoning",
    Waiver.OTHER_MODEL: "the reply is another model's",
}
"""What is said of a fault."""
ADVICE = {
    Waiver.NO_REASONING: "switch the reasoning on (vLLM: --reasoning-parser; others: a field of "
    "extra_body), check teacher.chat.family",
    Waiver.SUMMARY: "choose a model whose reasoning is shown",
    Waiver.OTHER_MODEL: "name it in teacher.server.model, or in teacher.chat.served_as",
}
"""What to do about it."""


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How a chat server is spoken with."""

    family: FamilyName = FamilyName.VLLM
    """Which manners the server has (docs/teachers.md)."""
    waives: tuple[Waiver, ...] = ()
    """Faults of the server that are accepted. The run's metrics and the card name them."""
    tools: dict[str, str] = field(
        default_factory=lambda: {
            "search": "Search for passages about one fact. The results are shown to you."
        }
    )
    """The description of each tool for the server, by the tool's name."""
    served_as: tuple[str, ...] = ()
    """Other names of the model that its replies may have."""
    answer_request: str = r"Stop here. Give your final answer now, short, in \boxed{}."
    """What the user says when a budget is used up and the answer is forced."""


def require_plain_template(chat_template: str) -> None:
    """Refuse a chat template with more than the prompt: a chat server has its own."""
    if chat_template.strip() != "{prompt}":
        raise ConfigError(
            "a chat server has a template of its own",
            where="teacher.chat_template",
            expected="'{prompt}'",
            got=repr(chat_template),
        )
