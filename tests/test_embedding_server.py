"""Embed by a server over real sockets: nothing is paid twice, and its failures are told apart."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.search import SearchError
from coa.search.dense.hashed import HashedEmbedder
from coa.search.dense.server import ServedEmbedder
from coa.search.dense.settings import EmbedderKind, EmbeddingServerSettings
from tests.dense_support import RIVERS, dense_settings, embed, make_index, open_dense, towns
from tests.doubles.embedding_service import EmbeddingService

BATCH = 8
CONCURRENCY = 2


def served_settings(place: Path, url: str, **changes: Any) -> Any:
    server = EmbeddingServerSettings(
        f"{url}/v1", deadline_seconds=5.0, max_concurrency=CONCURRENCY, **changes
    )
    return dense_settings(
        place, embedder=EmbedderKind.SERVER, model="hashed", batch_size=BATCH, server=server
    )


def answering(reply: Callable[[Any], web.Response]) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        return reply(await request.json())

    app = web.Application()
    app.add_routes([web.post("/v1/embeddings", answer)])
    return app


def test_vectors_of_a_server_are_those_of_its_embedder(tmp_path: Path, served_app: Any) -> None:
    service = EmbeddingService(HashedEmbedder(64))
    index = make_index(tmp_path, towns(50))
    with served_app(service.app()) as url:
        settings = served_settings(tmp_path, url)
        rows = embed(index, settings).rows
        engine = open_dense(index, settings)
        found = engine.find("A castle: word3 word4", 3)
        engine._embedder.close()
    assert sorted(service.texts[:50]) == sorted(
        settings.passage_text(passage) for passage in towns(50)
    )
    passages = sorted(towns(50), key=lambda passage: passage.id)
    expected = HashedEmbedder(64).embed([settings.passage_text(passage) for passage in passages])
    assert np.allclose(rows, expected, atol=1e-3)
    assert "castle" in found[0].passage.title


def test_a_killed_run_goes_on_and_pays_only_for_what_was_in_flight(
    tmp_path: Path, root: Path, served_app: Any
) -> None:
    service = EmbeddingService(HashedEmbedder(64), latency_seconds=0.05)
    index = make_index(tmp_path, towns(400))
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    with served_app(service.app()) as url:
        command = [
            *(sys.executable, "-m", "coa.search.embed", f"index={index}"),
            *(f"search.dense.folder={tmp_path / 'vectors'}", "search.dense.embedder=server"),
            *("search.dense.model=hashed", f"search.dense.batch_size={BATCH}"),
            f"search.dense.server.base_url={url}/v1",
            f"search.dense.server.max_concurrency={CONCURRENCY}",
        ]
        child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(service.texts) < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        num_paid = len(service.texts)
        assert 100 <= num_paid < 400
        service.latency_seconds = 0.0
        folder = embed(index, served_settings(tmp_path, url))
    times = Counter(service.texts)
    assert len(times) == 400
    assert sum(times.values()) - 400 <= BATCH * CONCURRENCY
    assert max(times.values()) <= 2
    assert folder.missing().tolist() == []
    lengths = np.linalg.norm(folder.rows.astype(np.float32), axis=1)
    assert np.allclose(lengths, 1, atol=1e-2)


def test_an_unreachable_server_stops_the_run_and_nothing_is_lost(
    tmp_path: Path, served_app: Any
) -> None:
    index = make_index(tmp_path, towns(60))
    service = EmbeddingService(HashedEmbedder(64), max_chars=60)
    long = max(len(f"{passage.title}\n{passage.text}") for passage in towns(60))
    assert long > 60
    with (
        served_app(service.app()) as url,
        pytest.raises(ServiceError, match="cannot be embedded") as refusal,
    ):
        embed(index, served_settings(tmp_path, url))
    assert "max_chars" in str(refusal.value)
    with pytest.raises(ServiceError, match="cannot be reached"):
        embed(index, served_settings(tmp_path, "http://127.0.0.1:1", timeout_seconds=1.0))


def test_a_server_of_another_model_is_refused_with_advice_that_works(
    tmp_path: Path, served_app: Any
) -> None:
    index = make_index(tmp_path)
    with served_app(EmbeddingService(HashedEmbedder(64)).app()) as url:
        settings = served_settings(tmp_path, url)
        embed(index, settings)
    with served_app(EmbeddingService(HashedEmbedder(32)).app()) as url:
        engine = open_dense(index, served_settings(tmp_path, url))
        with pytest.raises(ServiceError, match="another size") as refusal:
            engine.find("Rhine", 1)
        engine._embedder.close()
        assert refusal.value.details["expected"] == "64 numbers"
        assert "into another folder" in refusal.value.details["what to do"]
        (tmp_path / "other").mkdir()
        elsewhere = served_settings(tmp_path / "other", url)
        embed(index, elsewhere)
        engine = open_dense(index, elsewhere)
        assert engine.find("The Rhine is a river", 1)[0].passage == RIVERS[1]
        engine._embedder.close()
    with served_app(EmbeddingService(HashedEmbedder(64), "another").app()) as url:
        engine = open_dense(index, served_settings(tmp_path, url))
        with pytest.raises(ServiceError, match="refuses us") as refusal:
            engine.find("Rhine", 1)
        engine._embedder.close()
        assert "search.dense.model" in refusal.value.details["what to do"]


@pytest.mark.parametrize(
    "reply",
    [
        {"data": []},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": [1.0, 2.0]}, {"embedding": [1.0]}]},
        {"data": [{"embedding": ["1"]}]},
        {"data": [{"embedding": [1e39, 1.0]}]},
        {"error": "\x1b[31mno"},
        [],
    ],
)
def test_replies_that_make_no_sense_are_failed_searches(served_app: Any, reply: object) -> None:
    with served_app(answering(lambda _: web.json_response(reply))) as url:
        embedder = ServedEmbedder(EmbeddingServerSettings(f"{url}/v1"), "m")
        with pytest.raises(SearchError, match="malformed") as failure:
            embedder.embed(["a"])
        embedder.close()
    assert "\x1b" not in str(failure.value)


def test_embeddings_are_ordered_by_their_index(served_app: Any) -> None:
    data = [{"embedding": [0, 2], "index": 1}, {"embedding": [3, 0], "index": 0}]
    with served_app(answering(lambda _: web.json_response({"data": data}))) as url:
        embedder = ServedEmbedder(EmbeddingServerSettings(f"{url}/v1"), "m")
        assert embedder.embed(["a", "b"]).tolist() == [[1, 0], [0, 1]]
        embedder.close()


def test_what_may_pass_is_repeated_and_the_key_is_sent_and_never_shown(
    served_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDING_KEY", "sk-secret")
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        if len(seen) == 1:
            return web.Response(status=503, text="busy")
        if len(seen) == 2:
            return web.json_response({"data": [{"embedding": [1.0]}]})
        return web.Response(status=401, text="no such key: sk-secret")

    app = web.Application()
    app.add_routes([web.post("/v1/embeddings", answer)])
    with served_app(app) as url:
        settings = EmbeddingServerSettings(f"{url}/v1", api_key_env="EMBEDDING_KEY")
        embedder = ServedEmbedder(settings, "m")
        assert embedder.embed(["a"]).tolist() == [[1.0]]
        with pytest.raises(ServiceError, match="refuses us") as refusal:
            embedder.embed(["a"])
        embedder.close()
    assert seen == ["Bearer sk-secret"] * 3
    assert "sk-secret" not in str(refusal.value)
    monkeypatch.delenv("EMBEDDING_KEY")
    with pytest.raises(ConfigError, match="EMBEDDING_KEY is not set"):
        ServedEmbedder(settings, "m")


def test_a_closed_embedder_can_be_used_again(served_app: Any) -> None:
    with served_app(EmbeddingService(HashedEmbedder(16)).app()) as url:
        embedder = ServedEmbedder(EmbeddingServerSettings(f"{url}/v1"), "hashed")
        first = embedder.embed(["Danube"])
        embedder.close()
        embedder.close()
        assert np.array_equal(embedder.embed(["Danube"]), first)
        embedder.close()
