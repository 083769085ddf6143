"""Probe real servers of known behaviour."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coa.journal import Journal
from coa.ledger import Ledger
from coa.policy import Policy, Request, Turns
from coa.policy.chat.policy import ChatPolicy, ChatSettings
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.policy.scripted import ScriptedPolicy
from coa.probing import Probe
from tests.chat_support import MODEL
from tests.doubles.model_server import serve


def like(**changes: Any) -> Request:
    """A request of a run."""
    values: dict[str, Any] = {
        "context": "Who?",
        "stop": ("</search>",),
        "max_tokens": 600,
        "temperature": 0.6,
        "top_p": 1.0,
        "seed": 1,
        "turns": Turns(("search",), ()),
    }
    return Request(**{**values, **changes})


def probed(
    journal: Path,
    *,
    chat: ChatSettings | None = None,
    server: Mapping[str, Any] | None = None,
    script: Policy | None = None,
    asked: Request | None = None,
    port: int = 0,
    **manner: Any,
) -> Probe:
    """Probe a server with these manners, over chat or raw completions."""

    async def look() -> Probe:
        served = script or ScriptedPolicy(lambda request: "no", MODEL)
        async with serve(served, port=port, **manner) as base_url:
            settings = ServerSettings(
                base_url, MODEL, **{"patience_minutes": 0.1, **(server or {})}
            )
            policy = CompletionsPolicy(settings) if chat is None else ChatPolicy(settings, chat)
            with Journal(journal) as opened:
                async with policy:
                    probe = Probe(policy, opened, Ledger(opened))
                    await probe.look(asked or like(), may_ask=True)
                    return probe

    return asyncio.run(look())
