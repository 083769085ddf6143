"""Compare the CPU time of a request of our completions client with OpenAI's own client.

    python -m bench.completions

A server in another process answers every request with the same short text, so the client alone is
measured: encoding, sending, reading. Contexts are text or token ids; 64 requests are in flight.
Both clients go over aiohttp. Target: half the CPU of OpenAI's in text, a twentieth with ids.
"""

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

import openai
from aiohttp import web

from coa.policy import Request
from coa.policy.completions import CompletionsPolicy
from coa.policy.server_settings import ServerSettings
from coa.student.small import StudentSettings, new_student

CONCURRENCY = 64
NUM_REPEATS = 3
SIZES = (8_000, 32_000)
STOP = ("</end_search>",)
REPLY = {
    "choices": [{"text": "It was Ada.", "finish_reason": "stop", "token_ids": [1, 2, 3]}],
    "usage": {"prompt_tokens": 8_000, "completion_tokens": 3},
}
Ask = Callable[[Request], Awaitable[object]]


class Case(NamedTuple):
    """A request, and how often it is sent in one round."""

    name: str
    request: Request
    num_requests: int


def serve(connection: Connection) -> None:
    """Answer every request at once; the port goes through `connection`."""
    body = json.dumps(REPLY).encode()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    async def run() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connection.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


@asynccontextmanager
async def openais_client(base_url: str) -> AsyncIterator[Ask]:
    """Open OpenAI's client, as this project used it before."""
    http_client = openai.DefaultAioHttpClient()
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key="EMPTY", http_client=http_client
    ) as client:

        async def ask(request: Request) -> object:
            ids = request.context_ids
            return await client.completions.create(
                model="tiny",
                prompt=request.context if ids is None else list(ids),
                stop=list(request.stop),
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
            )

        yield ask


@asynccontextmanager
async def our_client(base_url: str, tokenizer: str) -> AsyncIterator[Ask]:
    """Open the project's client, as a policy with ids."""
    settings = ServerSettings(
        base_url, "tiny", tokenizer=tokenizer, extra_body={"return_token_ids": True}
    )
    async with CompletionsPolicy(settings) as policy:
        yield policy.complete


async def cpu_of(ask: Ask, case: Case) -> float:
    """Measure the milliseconds of CPU a request takes."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def in_slot() -> None:
        async with slots:
            await ask(case.request)

    started = time.process_time()
    await asyncio.gather(*(in_slot() for _ in range(case.num_requests)))
    return 1000 * (time.process_time() - started) / case.num_requests


def cases() -> list[Case]:
    """Make cases with text and with ids in each size."""
    found = []
    for size in SIZES:
        text = Request("word " * size, STOP, 256, 0.6, 1.0, seed=1)
        ids = Request("", STOP, 256, 0.6, 1.0, seed=1, context_ids=tuple(range(1, size + 1)))
        found.append(Case(f"text, {size:,} tokens", text, 400))
        found.append(Case(f"ids, {size:,} tokens", ids, 16))
    return found


async def measure(base_url: str, tokenizer: str) -> None:
    """Print the table; the two clients take turns."""
    print(f"{'ms of CPU a request':24}{'openai':>10}{'ours':>10}{'openai / ours':>16}")
    async with openais_client(base_url) as theirs, our_client(base_url, tokenizer) as ours:
        for case in cases():
            rounds = []
            for _ in range(NUM_REPEATS):
                rounds.append((await cpu_of(theirs, case), await cpu_of(ours, case)))
            their_cpu = statistics.median(it for it, _ in rounds)
            our_cpu = statistics.median(it for _, it in rounds)
            print(f"{case.name:24}{their_cpu:10.2f}{our_cpu:10.2f}{their_cpu / our_cpu:16.1f}")


def main() -> None:
    """Start the server and measure."""
    ours, servers = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(servers,))
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            student = new_student(["a b c"], StudentSettings(16, 1, 2, 32, 64), seed=1)
            student.tokenizer.save_pretrained(folder)
            asyncio.run(measure(f"http://127.0.0.1:{ours.recv()}/v1", folder))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
