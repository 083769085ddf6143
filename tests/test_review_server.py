"""Review on the real Argilla server: push, review as two people, pull, agreement, and all again.

`make test-full` runs it; a server takes about ten seconds to start, and its environment is
installed on first use.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from coa.store import tables
from coa.store.adjudication import AdjudicationParams, Standing, decide_all
from coa.store.reviews import (
    Applied,
    Effect,
    Preference,
    ReviewKind,
    ReviewQuestion,
)
from tests.review_support import (
    DATA_SETS,
    person,
    review_all,
    reviews,
    write_run,
)

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(root: Path, running_review_server: Any) -> Any:
    """A server with everything pushed to it for two reviewers each."""
    server = running_review_server
    write_run(root, server.folder)
    server.do("annotate.push", "num_items=500", "reviewers_per_item=2")
    return server


@pytest.fixture(scope="module")
def reviewed(server: Any) -> Any:
    """The server after two people have reviewed twenty items of each kind, pulled into the file."""
    review_all(server)
    server.do("annotate.pull")
    return server


def test_what_two_people_submitted_at_once_comes_back_with_name_time_and_version(
    reviewed: Any,
) -> None:
    found = reviews(reviewed)
    counts = {
        (kind, who): sum(it.kind is kind and it.reviewer == who for it in found)
        for kind, who in product(ReviewKind, ("anna", "ben"))
    }
    assert set(counts.values()) == {20}
    assert all(
        len(it.version) == 16 and it.submitted.endswith("Z") and it.round == 1 for it in found
    )
    sides = {it.value(ReviewQuestion.PREFERENCE) for it in found if it.kind is ReviewKind.PAIR}
    assert sides == {Preference.REJECTED}


def test_pushing_again_adds_nothing_and_overwrites_no_response(reviewed: Any) -> None:
    before = reviews(reviewed)
    told = reviewed.do("annotate.push", "num_items=500", "reviewers_per_item=2")
    assert "coa-pairs: 0 new, 200 brought up to date" in told
    reviewed.do("annotate.pull")
    assert reviews(reviewed) == before


def test_two_pushes_at_once_make_each_record_once(reviewed: Any) -> None:
    command = ("annotate.push", "num_items=40", "annotate.prefix=twice", "kinds=[trajectory]")
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: reviewed.run(*command), range(2)))
    assert [it.returncode for it in done] == [0, 0], done
    told = sorted(it.stdout.split(": ")[-1].partition(";")[0].strip() for it in done)
    assert told == ["0 new, 40 brought up to date", "40 new, 0 brought up to date"]


def test_the_assembly_does_what_the_reviewers_said(reviewed: Any) -> None:
    reviewed.do("curate.assemble")
    applied = list(tables.read_table(reviewed.folder / "data/assemble/reviewed.parquet", Applied))
    effects = {effect: sum(it.effect is effect for it in applied) for effect in Effect}
    about_trajectories = [
        it.effect for it in applied if it.kind is ReviewKind.TRAJECTORY and it.num_reviews
    ]
    assert len(about_trajectories) == 20
    assert set(about_trajectories) <= {
        Effect.DROPPED,
        Effect.CONFIRMED,
    }  # confirmed: a rule had dropped it before
    assert effects[Effect.FLIPPED] == effects[Effect.ANSWER_ADDED] == 20
    assert 0 < effects[Effect.LET_IN] <= 20
    assert effects[Effect.STALE] == 0


def test_a_conflict_goes_to_a_second_round_that_decides_it(reviewed: Any) -> None:
    anna, ben = person(reviewed, "anna"), person(reviewed, "ben")
    data_set = anna.data_set("coa-trajectories")
    first = sorted((it["external_id"], it["id"]) for it in anna.pending(data_set, 300))[0]
    anna.submit({"id": first[1]}, verdict="keep")
    ben.submit({"id": first[1]}, verdict="drop")
    reviewed.do("annotate.pull")
    (conflict,) = (
        it
        for it in decide_all(reviews(reviewed), AdjudicationParams())
        if it.standing is Standing.CONFLICT
    )
    assert first[0] == f"{conflict.item_id}@{conflict.version}"
    told = reviewed.do("annotate.push", "round=2", "kinds=[trajectory]")
    assert "coa-trajectories-round2: 1 new" in told
    (record,) = anna.pending(anna.data_set("coa-trajectories-round2"))
    anna.submit(record, verdict="keep")
    reviewed.do("annotate.pull")
    decided = {it.item_id: it for it in decide_all(reviews(reviewed), AdjudicationParams())}
    assert (decided[conflict.item_id].standing, decided[conflict.item_id].value) == (
        Standing.DECIDED,
        "keep",
    )


def test_reviewers_cannot_see_what_the_program_thinks(server: Any) -> None:
    anna = person(server, "anna")
    shown = [
        record for name in DATA_SETS for record in anna.pending(anna.data_set(f"coa-{name}"), 20)
    ]
    assert {json.dumps(record.get("metadata")) for record in shown} <= {"{}", "null"}
    assert not any(record.get("suggestions") for record in shown)
    assert "graded_wrong" not in json.dumps(shown)


def test_a_deployment_elsewhere_is_reached_by_address_key_and_headers(
    server: Any, tmp_path: Path, root: Path
) -> None:
    write_run(root, tmp_path / "elsewhere")
    key = (server.folder / "state/owner.key").read_text()
    variables = {"ARGILLA_API_URL": server.url, "ARGILLA_HEADERS": '{"X-Team": "t"}'}
    here, server.folder = server.folder, tmp_path / "elsewhere"
    try:
        done = server.run(
            "annotate.push", "num_items=3", "annotate.prefix=team", **variables, ARGILLA_API_KEY=key
        )
        assert "team-pairs: 3 new" in done.stdout, done.stderr
        refused = server.run("annotate.pull", **variables, ARGILLA_API_KEY="not-the-key")
        assert "cannot talk to Argilla" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert "not-the-key" not in refused.stderr
    finally:
        server.folder = here


def test_a_second_server_on_the_same_folder_or_port_is_refused(
    server: Any, root: Path, tmp_path: Path
) -> None:
    port = server.url.rpartition(":")[2]
    taken = server.run("annotate.serve", f"port={port}")
    assert "a server is using state" in taken.stderr
    other = server.run(
        "annotate.serve", f"port={port}", f"annotate.serve.state={tmp_path / 'other'}"
    )
    assert f"cannot listen on 127.0.0.1:{port}" in other.stderr


def test_no_password_or_key_is_in_a_log(server: Any) -> None:
    log = (server.folder / "state/server.log").read_text() + (
        server.folder / "serve.err"
    ).read_text()
    secrets = [*server.passwords.values(), (server.folder / "state/owner.key").read_text()]
    assert not [secret for secret in secrets if secret in log]


def test_killed_during_review_it_loses_no_submitted_response(
    root: Path, tmp_path: Path, review_server: Callable[..., Any]
) -> None:
    write_run(root, tmp_path)
    server = review_server(tmp_path, "annotators=[anna]").start()
    server.do("annotate.push", "num_items=60", "kinds=[dispute]")
    anna = person(server, "anna")
    records = anna.pending(anna.data_set("coa-disputes"), 60)
    submitted: list[str] = []

    def review() -> None:
        for record in records:
            try:
                anna.submit(record, same_answer="no")
            except httpx.HTTPError:
                return
            submitted.append(record["external_id"])

    reviewer = threading.Thread(target=review)
    reviewer.start()
    while len(submitted) < 15:
        time.sleep(0.005)
    processes = children(server.process.pid)
    for pid in (server.process.pid, *processes):
        os.kill(pid, signal.SIGKILL)
    reviewer.join()
    server.process.stdout.close()
    server.process.wait()
    server.start()
    try:
        server.do("annotate.pull")
        kept = {f"{it.item_id}@{it.version}" for it in reviews(server)}
        assert 15 <= len(submitted) < 60
        assert set(submitted) <= kept
        assert len(kept) <= len(submitted) + 1
    finally:
        assert "is stopped" in server.stop()


def children(pid: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout
    return [int(word) for word in found.split()]


def test_nothing_outlives_the_server(
    root: Path, tmp_path: Path, review_server: Callable[..., Any]
) -> None:
    write_run(root, tmp_path)
    server = review_server(tmp_path, "annotators=[]")
    server.environment["TMPDIR"] = str(tmp_path)
    server.start()
    (process,) = children(server.process.pid)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.stdout.close()
    server.process.wait()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline, "the process outlives the one that watched it"
        time.sleep(0.1)
    assert not list(tmp_path.glob("argilla-*")), "the temporary folder outlives the process"
