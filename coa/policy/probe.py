"""Ask a server two short questions before a run relies on it, and look at what comes.

A chat server is asked one question with a tool, where the run offers one, and one without; a server
of raw completions is asked to continue a text. Any model answers them: what is looked at is what
the server makes of it. `coa/rollout/probe.py` asks and keeps the replies in the journal.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from msgspec import UNSET

from coa.errors import ConfigError
from coa.policy import Completion, Finish, Request, Turns
from coa.policy.chat.families import ADVICE, SAID, Waiver
from coa.policy.react import THINKING_OPENED
from coa.records import protocol
from coa.records.trajectory import StepKind

STORY = "Once upon a time there was"
"""A text that can continue in many ways."""
_STORY_TOKENS = 16
_TURN_TOKENS = 512
"""The room for a turn of chat: models that reason need it, and most use a tenth of it."""
_SEED = 20_251
_FACT = "the capital of France"
_ECHO_CHARS = 12
"""The end of the question, at the beginning of a reply, is an echo."""
_MARKS_OF_CALLS = re.compile(
    r"<tool_call>|<\|tool_call|<function=|<｜tool|\[TOOL_CALLS\]"  # noqa: RUF001
    r"|\"(?:name|arguments)\"\s*:"
)
"""How models write calls that no parser of the server has read."""
PARSER_ADVICE = (
    "switch the server's tool parser on, and that of the reasoning (vLLM: "
    "--enable-auto-tool-choice, --tool-call-parser, --reasoning-parser)"
)


def story_question(like: Request, ids: tuple[int, ...] | None) -> Request:
    """Ask for the continuation of a text, with the settings and the stop strings of the run.

    `ids` are the text `STORY`, for policies that send ids.
    """
    return replace(
        like,
        context=STORY,
        max_tokens=_STORY_TOKENS,
        seed=_SEED,
        context_ids=ids,
        session=UNSET,
        turns=UNSET,
    )


def chat_questions(like: Request) -> tuple[Request, ...]:
    """Ask for a call of a tool, where the run offers one, and for an answer without tools."""
    plain = f"Think for a moment, then name {_FACT} in one word."
    questions = [_chat_question(plain, (), like)]
    tools = like.turns.tools if isinstance(like.turns, Turns) else ()
    if tools:
        tool = "search" if "search" in tools else tools[0]
        asked = f"Call the tool {tool} once, now, to look up {_FACT}. Then answer in one word."
        questions.insert(0, _chat_question(asked, tools, like))
    return tuple(questions)


def _chat_question(asked: str, tools: tuple[str, ...], like: Request) -> Request:
    return replace(
        like,
        context=f"{asked}\n\n{THINKING_OPENED}",
        stop=(),
        max_tokens=min(_TURN_TOKENS, like.max_tokens),
        seed=_SEED,
        context_ids=None,
        session=UNSET,
        turns=Turns(tools, ()),
    )


def look_at_story(
    reply: Completion, decoded: str | None, *, where: str, gives_ids: bool
) -> dict[str, str]:
    """Say what a server of raw completions made of the story.

    `decoded` is the text of the ids that came. A server that repeats the text, or whose ids are
    missing or those of another tokenizer, is a `ConfigError`.
    """
    text = reply.text
    if text.startswith(STORY) or text.lstrip().startswith(STORY[-_ECHO_CHARS:]):
        raise ConfigError(
            "the server repeats the text that it is to continue",
            where=where,
            expected="the continuation alone",
            got=repr(text[:60]),
            fix="remove `echo` from teacher.server.extra_body, or use a server whose "
            "/v1/completions continues a text",
        )
    is_cut = reply.finish is Finish.STOP  # a text that is cut has no ids
    if gives_ids and decoded is None and not is_cut:
        raise ConfigError(
            "the server returns no token ids",
            where=where,
            expected="`token_ids` in each choice, as teacher.server.extra_body asks for them",
            got="a choice without them",
            fix="use a server that knows `return_token_ids` (vLLM does), or remove it",
        )
    # The end may differ: a token that ends the turn has no text, and a character may be cut.
    if decoded is not None and not decoded.startswith(text.rstrip("\ufffd")):
        raise ConfigError(
            "the token ids are not those of the text",
            where=where,
            expected=repr(text[:60]),
            got=f"{decoded[:60]!r}, by teacher.server.tokenizer",
            fix="set teacher.server.tokenizer to that of the served model",
        )
    return {
        "continuation": "begins where the text ends",
        "token_ids": "those of the text" if gives_ids else "not asked for",
        "usage": _usage(reply),
    }


def look_at_chat(
    replies: Sequence[Completion], waives: Sequence[Waiver], *, where: str
) -> dict[str, str]:
    """Say what a chat server made of the questions of `chat_questions`, in their order.

    A server that cannot teach, or leaves a tool call unparsed, is a `ConfigError`.
    """
    faults = [reply.native.fault if reply.native else "" for reply in replies]
    for waiver, said in SAID.items():
        found = [fault for fault in faults if fault.startswith(said)]
        # A model may call a tool without a thought: only a server that never shows one hides it.
        if found and (waiver is not Waiver.NO_REASONING or len(found) == len(faults)):
            raise ConfigError(
                "this chat server cannot teach reasoning",
                where=where,
                expected="replies of the model with its reasoning as text",
                got=found[0],
                fix=f"{ADVICE[waiver]}; or accept it by name, which the metrics and the card "
                f"say: teacher.chat.waives=[{waiver}]",
            )
    accepted = ", ".join(name for name in waives if name is not Waiver.OTHER_MODEL)
    is_checked = Waiver.OTHER_MODEL not in waives
    return {
        "reasoning": f"as it is (accepted: {accepted})" if accepted else "shown as text",
        "model": "the one that was asked for" if is_checked else "accepted, whichever it is",
        "tool_calls": _calls(replies[0], where) if len(replies) > 1 else "no tool is offered",
        "usage": _usage(replies[0]),
    }


def _calls(reply: Completion, where: str) -> str:
    """Say how the call that was asked for ended."""
    steps = list(protocol.parse_policy(reply.text))
    if any(step.kind is StepKind.ACTION for step in steps):
        return "parsed"
    fault = reply.native.fault if reply.native else ""
    if fault and not fault.startswith(SAID[Waiver.NO_REASONING]):
        return f"one could not be read: {fault[:120]}"
    if not _MARKS_OF_CALLS.search(reply.text):
        return "unknown: the model made none"
    reasoning = "".join(step.text for step in steps if step.kind is StepKind.THOUGHT)
    place = "reasoning" if _MARKS_OF_CALLS.search(reasoning) else "answer"
    raise ConfigError(
        "the server leaves a tool call unparsed",
        where=where,
        expected="a call in `tool_calls`",
        got=f"one inside the {place}: {reply.text[-160:]!r}",
        fix=PARSER_ADVICE,
    )


def _usage(reply: Completion) -> str:
    if reply.charged.is_estimated:
        return "not counted by the server: counted or estimated here"
    return "counted"


def scripted_answer(request: Request, offered: str) -> str | None:
    """Answer these questions as a script, which is no model; None where the request is none."""
    if request.context == STORY:
        return " an old man by the river who had a small boat, two dogs and many apple trees."
    prompt, opened, written = request.context.rpartition(THINKING_OPENED)
    if not opened or _FACT not in prompt:
        return None
    if protocol.open_tag(offered) in prompt and not written:
        call = f"{protocol.open_tag(offered)} {_FACT} {protocol.close_tag(offered)}"
        return f"I do not know it for certain. {call}"
    return f"It is Paris.{protocol.THINK_CLOSE}\n\n\\boxed{{Paris}}"
