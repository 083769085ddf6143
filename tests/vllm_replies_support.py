"""Ask the real vLLM what a teacher meets, and keep the replies for tests that need no server.

    python -m tests.vllm_replies_support

writes tests/data/vllm_replies.json: the bodies, without times and random ids.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coa.policy.chat.families import FAMILIES, ChatSettings, FamilyName
from coa.policy.chat.messages import tool_schemas
from tests.vllm_support import (
    MODEL,
    ROOT,
    WINDOW,
    conversations,
    post,
    save_model,
    serve_vllm,
    texts_in_tags,
)

REPLIES = ROOT / "tests/data/vllm_replies.json"
PARSERS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser")
CHAT = "chat/completions"
_RANDOM = ("id", "created", "system_fingerprint")
TOOLS = tool_schemas(("search",), ChatSettings().tools)


def captured(base_url: str) -> dict[str, Any]:
    """Ask for each kind of reply; all at temperature 0."""
    forced = conversations()[1]
    asked, _, result, request_for_answer = forced[:4]
    chat = {"model": MODEL, "temperature": 0, "max_tokens": 100, "messages": [asked]}
    offered = {**chat, "tools": TOOLS}
    called = post(base_url, CHAT, offered)
    message = called["choices"][0]["message"]
    (call,) = message["tool_calls"]
    own = {"role": "assistant", "reasoning": message["reasoning"], "tool_calls": [call]}
    observed = [asked, own, {**result, "tool_call_id": call["id"]}]
    named = {"type": "function", "function": {"name": "search"}}
    in_tags = texts_in_tags()[0]
    raw = {
        "model": MODEL,
        "temperature": 0,
        "max_tokens": 100,
        "prompt": in_tags[: in_tags.index("I need the director of")],
        "stop": ["</end_search>"],
    }
    until_answer = {
        **offered,
        "messages": [*observed, request_for_answer],
        "tool_choice": "none",
    }
    no_thinking = FAMILIES[FamilyName.VLLM].forced
    replies = {
        "call": called,
        "answer": post(base_url, CHAT, {**offered, "messages": observed}),
        "forced answer": post(base_url, CHAT, {**until_answer, **no_thinking}),
        "forced answer, thinking": post(base_url, CHAT, until_answer),
        "cut in the thought": post(base_url, CHAT, {**offered, "max_tokens": 6}),
        "cut in the call": post(base_url, CHAT, {**offered, "max_tokens": 25}),
        "call without tools": post(base_url, CHAT, chat),
        "call of the named tool": post(base_url, CHAT, {**offered, "tool_choice": named}),
        "completion": post(base_url, "completions", {**raw, "return_token_ids": True}),
        "too long": post(base_url, CHAT, {**offered, "max_tokens": 2 * WINDOW}),
        "another model": post(base_url, CHAT, {**offered, "model": "another"}),
    }
    return {name: _lasting(reply) for name, reply in replies.items()}


def _lasting(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reply without what differs from one time to the next."""
    kept = {name: value for name, value in reply.items() if name not in _RANDOM}
    for choice in kept.get("choices", ()):
        for call in choice.get("message", {}).get("tool_calls", ()):
            call["id"] = "chatcmpl-tool-0"
    return kept


def main() -> None:
    """Train the model, serve it and write the replies."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        save_model(model)
        with serve_vllm(model, Path(folder) / "log.txt", *PARSERS, "qwen3") as base_url:
            replies = captured(base_url)
    REPLIES.parent.mkdir(exist_ok=True)
    REPLIES.write_text(json.dumps(replies, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
