"""Search once for the question itself, show the passages in the prompt, and let the policy read.

The search is the tool of every other row, with its number of passages. A question whose search
fails is a row that says so.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from coa.errors import ConfigError
from coa.records.question import Question
from coa.records.trajectory import Outcome
from coa.search.tool import SearchTool
from coa.tools import ToolReply
from evaluation.baselines.asker import Answered, Ask, Asker
from evaluation.spent import spent_on

_HEAD = "Passages that a search for the question found:"


async def answer(asker: Asker, questions: Sequence[Question]) -> AsyncGenerator[Answered, None]:
    """Answer each question from the passages that one search shows."""
    asks = []
    for question, reply in zip(questions, await _search(asker, questions), strict=True):
        if reply.outcome is Outcome.ERROR:
            row = asker.fail(Ask(question), reply.text)
            asker.bar.add()
            yield Answered(question, row, (row,), (spent_on([], num_searches=1),))
        else:
            asks.append(Ask(question, notes=f"{_HEAD}\n{reply.text}"))
    turns = iter(asks)
    async with aclosing(asker.ask(asks)) as rows:
        async for row in rows:
            spent = spent_on([row.trajectory], num_searches=1)
            yield Answered(next(turns).question, row, (row,), (spent,))


async def _search(asker: Asker, questions: Sequence[Question]) -> list[ToolReply]:
    """Search for all questions, as many at once as rollouts are under way."""
    tool = asker.runtime.tools.get(SearchTool.name)
    if tool is None:
        raise ConfigError("retrieve_then_read needs a search", where="the section search")
    slots = asyncio.Semaphore(asker.runtime.concurrency)

    async def search(question: Question) -> ToolReply:
        async with slots:
            return await tool.call(question.question)

    async with asyncio.TaskGroup() as group:
        searches = [group.create_task(search(question)) for question in questions]
    return [each.result() for each in searches]
