"""Test the policy over vLLM on engines of known behaviour, and on a real vLLM where there is one.

The real one is opt-in: COA_VLLM_URL names a running server (docs/scaling.md), such as
http://127.0.0.1:8000, that serves the folder in COA_VLLM_MODEL.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ServiceError
from coa.policy import Completion, Finish, Request, UnbatchedPolicy
from coa.policy.local.model import LocalPolicy
from coa.policy.server import error_response

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
requests = pytest.importorskip("requests")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.student.small import StudentSettings, new_student  # noqa: E402
from tests.vllm_fake_support import open_served, serve_to_client  # noqa: E402
from train.vllm_policy import Sampling, ServedEngine, VllmPolicy  # noqa: E402

ROOT = Path(__file__).parent.parent
WINDOW = 96
TEXT = (
    "the author of the book is Ada <begin_search> who wrote it </end_search> "
    "it says Ada </think> \\boxed{Ada}"
)
STOP = ("</end_search>",)


@pytest.fixture(scope="module")
def local() -> LocalPolicy:
    """A small random model, hot enough to write tags and ends of turns."""
    student = new_student([TEXT], StudentSettings(16, 1, 2, 32, WINDOW), seed=1)
    student.model.resize_token_embeddings(len(student.tokenizer))
    return LocalPolicy(student.model.eval(), student.tokenizer, name="local")


@pytest.fixture(scope="module")
def tokenizer(local: LocalPolicy) -> Any:
    return new_student([TEXT], StudentSettings(16, 1, 2, 32, WINDOW), seed=1).tokenizer


class InProcess:
    """Samples with the local policy, and may hand over some ids more than it should."""

    window = WINDOW

    def __init__(self, policy: LocalPolicy, too_many: Sequence[int] = ()) -> None:
        self._policy, self._too_many = policy, list(too_many)
        self.given: list[Sampling] = []

    def sample(
        self, contexts: Sequence[Sequence[int]], sampling: Sequence[Sampling]
    ) -> list[list[int]]:
        self.given += sampling
        asked = [
            Request(
                "",
                tuple(row["stop"]),
                row["max_tokens"],
                row["temperature"],
                row["top_p"],
                row["seed"],
                tuple(ids),
            )
            for ids, row in zip(contexts, sampling, strict=True)
        ]
        done = self._policy.complete_batch(asked)
        extra = [self._too_many if completion.finish is Finish.STOP else [] for completion in done]
        return [
            list(completion.ids or ()) + more for completion, more in zip(done, extra, strict=True)
        ]


def asked(policy: Any, count: int = 200, max_tokens: int = 24) -> list[Request]:
    ids = policy.encode("the author", is_prompt=True)
    return [Request("the author", STOP, max_tokens, 1.0, 1.0, seed, ids) for seed in range(count)]


def test_completions_are_those_of_the_local_policy_for_the_same_ids(
    local: LocalPolicy, tokenizer: Any
) -> None:
    policy = VllmPolicy(InProcess(local), tokenizer, name="vllm")

    expected = local.complete_batch(asked(local))

    assert {completion.finish for completion in expected} == set(Finish)
    assert policy.complete_batch(asked(policy)) == expected


def test_ids_sampled_past_the_stop_string_are_not_trained(
    local: LocalPolicy, tokenizer: Any
) -> None:
    too_many = local.encode(" who wrote")
    policy = VllmPolicy(InProcess(local, too_many), tokenizer, name="vllm")

    assert policy.complete_batch(asked(policy)) == local.complete_batch(asked(local))


def test_every_request_has_its_own_limit_seed_and_stop_strings(
    local: LocalPolicy, tokenizer: Any
) -> None:
    engine = InProcess(local)
    ids = local.encode("the author", is_prompt=True)
    rows = [Request("", STOP, 3, 0.5, 0.9, 7, ids), Request("", (), 500, 1.0, 1.0, 8, ids * 20)]

    VllmPolicy(engine, tokenizer, name="vllm").complete_batch(rows)

    first, second = engine.given
    assert (first["max_tokens"], first["seed"], first["stop"], first["temperature"]) == (
        3,
        7,
        [*STOP],
        0.5,
    )
    assert second["max_tokens"] == WINDOW - 20 * len(ids)
    assert (second["stop"], second["top_k"], second["repetition_penalty"]) == ([], 0, 1.0)
    assert first["stop_token_ids"] == [tokenizer.eos_token_id]


def test_a_context_that_fills_the_window_is_not_sent(local: LocalPolicy, tokenizer: Any) -> None:
    engine = InProcess(local)
    full = Request("", STOP, 5, 1.0, 1.0, 0, (1,) * WINDOW)

    done = VllmPolicy(engine, tokenizer, name="vllm").complete_batch([full])

    assert (done, engine.given) == ([Completion("", Finish.LENGTH, 0, WINDOW, ())], [])


def test_a_text_that_ends_for_no_known_reason_is_an_error(
    local: LocalPolicy, tokenizer: Any
) -> None:
    class Aborting(InProcess):
        def sample(
            self, contexts: Sequence[Sequence[int]], sampling: Sequence[Sampling]
        ) -> list[list[int]]:
            return [[1] for _ in contexts]

    with pytest.raises(ServiceError, match="no reason that we know"):
        VllmPolicy(Aborting(local), tokenizer, name="vllm").complete_batch(asked(local, 1))


def served(
    local: LocalPolicy, tokenizer: Any, rows: list[Request], failing: web.Response | None = None
) -> list[Completion]:
    """The rows through a real server over real sockets."""

    async def through() -> list[Completion]:
        async with (
            serve_to_client(UnbatchedPolicy(local), WINDOW, failing) as client,
            open_served(client, tokenizer, "vllm") as policy,
        ):
            return await asyncio.gather(*(policy.complete(row) for row in rows))

    return asyncio.run(through())


def test_a_server_continues_ids_with_ids(local: LocalPolicy, tokenizer: Any) -> None:
    rows = asked(local, 40)
    assert served(local, tokenizer, rows) == local.complete_batch(rows)


def test_a_server_that_refuses_is_told_with_its_own_words(
    local: LocalPolicy, tokenizer: Any
) -> None:
    with pytest.raises(ServiceError, match="refuses a request") as caught:
        served(local, tokenizer, asked(local, 1), error_response(400, "too long"))
    assert "too long" in caught.value.details["got"]


def test_a_server_that_is_not_there_is_named() -> None:
    client = SimpleNamespace(session=requests.Session(), base_url="http://127.0.0.1:9", model="m")
    with client.session, pytest.raises(ServiceError, match="cannot be reached") as caught:
        ServedEngine(client, ThreadPoolExecutor(1))
    assert caught.value.details["where"] == "http://127.0.0.1:9/v1/models"


@pytest.mark.skipif(
    "COA_VLLM_URL" not in os.environ, reason="COA_VLLM_URL names no running vLLM server"
)
def test_a_real_vllm_gives_the_ids_up_to_the_token_that_completed_a_stop_string() -> None:
    base_url, folder = os.environ["COA_VLLM_URL"], os.environ["COA_VLLM_MODEL"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with requests.Session() as session:
        model = session.get(f"{base_url}/v1/models").json()["data"][0]["id"]
        client = SimpleNamespace(session=session, base_url=base_url, model=model)
        asyncio.run(check_real_vllm(client, tokenizer))


async def check_real_vllm(client: Any, tokenizer: Any) -> None:
    """Ask the same seeds twice, then with a stop string that each would write."""
    async with open_served(client, tokenizer, "vllm") as policy:
        rows = asked(policy, 8, max_tokens=32)
        free = await asyncio.gather(*(policy.complete(row) for row in rows))
        # A seed of its own for each.
        assert await asyncio.gather(*(policy.complete(row) for row in rows)) == free
        assert len({completion.ids for completion in free}) == len(free)
        for row, completion in zip(rows, free, strict=True):
            assert completion.ids is not None
            stop = next(
                text
                for text in map(tokenizer.decode, completion.ids[3:])
                if text.isascii() and len(text) > 3
            )
            stopped = await policy.complete(replace(row, stop=(stop[:-1],)))
            assert stopped.finish is Finish.STOP
            assert stopped.text.endswith(stop[:-1])
            assert stopped.ids == completion.ids[: stopped.num_tokens]
