"""Serve a teacher that reports cached and reasoning tokens and its price, and counts on its own."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from coa.policy import Completion, Request
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import serve
from coa.records.usage import Usage
from tests.completions_support import in_a_thread

MODEL = "paid"


class PaidTeacher(ScriptedPolicy):
    """A teacher that answers at once, and keeps an account of what it was asked."""

    def __init__(
        self,
        *,
        dollars: float | None = None,
        dollars_a_token: float = 0.0,
        seconds: float = 0.0,
        model: str = MODEL,
    ) -> None:
        super().__init__(_think, model)
        self.dollars = dollars
        self.dollars_a_token = dollars_a_token
        self.seconds = seconds
        self.charged: list[Usage] = []

    async def complete(self, request: Request) -> Completion:
        """Answer, and note what the call costs."""
        if self.seconds:
            await asyncio.sleep(self.seconds)
        completion = await super().complete(request)
        assert completion.num_context_tokens is not None
        num_tokens = completion.num_context_tokens + completion.num_tokens
        usage = Usage(
            completion.num_context_tokens,
            completion.num_tokens,
            cached_tokens=completion.num_context_tokens // 2,
            reasoning_tokens=completion.num_tokens - 3,
            dollars=self.dollars_a_token * num_tokens or self.dollars,
        )
        self.charged.append(usage)
        return replace(completion, usage=usage)

    @property
    def sums(self) -> Mapping[str, int]:
        """Add up the tokens of all calls."""
        return {
            "calls": len(self.charged),
            "context_tokens": sum(usage.context_tokens for usage in self.charged),
            "cached_tokens": sum(usage.cached_tokens for usage in self.charged),
            "written_tokens": sum(usage.written_tokens for usage in self.charged),
            "reasoning_tokens": sum(usage.reasoning_tokens for usage in self.charged),
        }

    @property
    def num_tokens(self) -> int:
        """Return all tokens read and written."""
        return self.sums["context_tokens"] + self.sums["written_tokens"]


def _think(request: Request) -> str:
    words = " ".join("thinking" for _ in range(request.seed % 7 + 3))
    return f"{words}.</think> \\boxed{{Ada}}"


@contextmanager
def served(policy: PaidTeacher) -> Iterator[tuple[str, ...]]:
    """Serve a teacher in a thread of its own; the arguments that make a stage ask it."""
    with in_a_thread(serve(policy)) as base_url:
        yield (
            "teacher.policy=completions",
            f"teacher.server.base_url={base_url}",
            f"teacher.server.model={policy.name}",
            "teacher.concurrency=4",
        )
