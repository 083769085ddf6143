"""The pages of `coa.view`: every kind of file, filters, comparisons, masks, and hostile texts."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from coa.errors import InputError
from coa.records.graded import GradedTrajectory
from coa.store import tables
from coa.view.app import create_app
from coa.view.masks import Masks
from coa.view.run_files import FileKind, find_files
from tests.view_support import ADDRESS, HOSTILE, graded, write_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a file of every kind; row 0 is hostile and wrong."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path)
    return tmp_path


@pytest.fixture
def client(run: Path) -> TestClient:
    return TestClient(create_app(find_files([]), Masks("")), base_url=ADDRESS)


@pytest.fixture
def get(client: TestClient) -> Callable[..., str]:
    def get(path: str, status: int = 200, **query: Any) -> str:
        reply = client.get(path, params=query)
        assert reply.status_code == status, reply.text
        return reply.text

    return get


def shown(page: str) -> str:
    """What a reader of the page sees, on one line."""
    without_tags = re.sub(r"<[^>]*>", " ", page.partition("<main>")[2])
    return " ".join(html.unescape(without_tags).split())


def test_every_file_with_rows_is_found_and_others_are_passed_over(run: Path) -> None:
    kinds = {name: file.kind for name, file in find_files([]).items()}
    assert kinds == {
        "data/sample/coa.parquet": FileKind.SAMPLED,
        "data/grade.parquet": FileKind.GRADED,
        "data/filter/dropped.parquet": FileKind.DROPPED,
        "data/branch/pairs.parquet": FileKind.PAIRS,
        "data/questions.parquet": FileKind.QUESTIONS,
    }
    assert list(find_files(["data/grade.parquet"])) == ["data/grade.parquet"]


@pytest.mark.parametrize("name", ["data/analyse.parquet", "data/nothing.parquet", "empty"])
def test_what_cannot_be_shown_is_an_error(run: Path, name: str) -> None:
    (run / "empty").mkdir()
    with pytest.raises(InputError):
        find_files([name])


def test_the_first_page_names_the_files_with_their_rows(get: Callable[..., str]) -> None:
    page = shown(get("/"))
    assert "data/grade.parquet graded trajectories 179" in page
    assert "data/branch/pairs.parquet pairs 1" in page


def test_filters_choose_rows_and_add_up(get: Callable[..., str]) -> None:
    name = "data/grade.parquet"
    assert "179 of 179 graded trajectories, page 1 of 4" in shown(get("/rows", file=name))
    assert "59 of 179" in shown(get("/rows", file=name, mode="cot"))
    assert "29 of 179" in shown(get("/rows", file=name, mode="cot", grade="wrong"))
    assert "89 of 179" in shown(get("/rows", file=name, cause="bad_query"))
    assert "90 of 179" in shown(get("/rows", file=name, cause="none"))
    assert "2 of 179" in shown(get("/rows", file=name, q="WHO? 42"))
    assert "2 of 179" in shown(get("/rows", file=name, q="result 1: who? 42", steps=1))
    assert "0 of 179" in shown(get("/rows", file=name, mode="x"))
    last = shown(get("/rows", file=name, page=3))
    assert "q058/cot/0" in last
    assert "q059/cot/0" in last
    by_id = shown(get("/rows", file=name, sort="-id"))
    assert by_id.index("q119/coa/0") < by_id.index("q118/coa/0")


def test_a_trajectory_shows_its_grade_its_cause_and_its_authors(get: Callable[..., str]) -> None:
    page = get("/row", file="data/grade.parquet", id="q002/coa/0")
    text = shown(page)
    assert "wrong answered Bo , accepted Ada" in text
    assert "bad query" in text
    assert "2 Call of search policy" in text
    assert "2 calls of the model, 10 tokens written" in text
    assert re.findall(r'<section class="step (\w+)', page) == [
        "policy",
        "policy",
        "environment",
        "policy",
    ]


def test_a_pair_shows_what_is_shared_both_sides_and_its_worth(get: Callable[..., str]) -> None:
    text = shown(get("/row", file="data/branch/pairs.parquet", id="q001/coa/0/3"))
    assert "1 shared step, then they part" in text
    assert text.index("chosen right") < text.index("rejected wrong")
    assert "worth of acting +0.45 [" in text


def test_hostile_texts_are_shown_and_do_nothing(get: Callable[..., str]) -> None:
    for path in ("/row", "/behind"):
        for name in ("data/grade.parquet", "data/filter/dropped.parquet"):
            page = get(path, file=name, id="q000/coa/0")
            assert "<script>alert" not in page
            assert "<img" not in page
            assert "\x1b" not in page
            assert "49" not in shown(page).partition("prompt, ")[0]
    page = get("/rows", file="data/grade.parquet", q=HOSTILE)
    assert "1 of 179" in shown(page)
    assert "<script>alert" not in page
    assert "{{7*7}}" in shown(page)
    framed = 'title="ESCAPE"' if 'title="ESCAPE"' in page else 'class="unseen"'
    assert framed in page


def test_the_rows_before_and_after_are_those_of_the_filters(client: TestClient) -> None:
    query = {"file": "data/grade.parquet", "mode": "cot", "grade": "correct"}
    reply = client.get("/neighbour", params={**query, "id": "q003/cot/0", "by": 1})
    assert reply.url.params["id"] == "q005/cot/0"
    assert reply.url.params["grade"] == "correct"
    reply = client.get("/neighbour", params={**query, "id": "q001/cot/0", "by": -1})
    assert reply.url.params["id"] == "q001/cot/0"


def test_two_answers_stand_side_by_side(get: Callable[..., str]) -> None:
    text = shown(get("/compare", question="q003"))
    assert "2 trajectories of this question" in text
    assert text.index("q003/coa/0 coa m correct") < text.index("q003/cot/0 cot m correct")
    assert "no open file has a trajectory" in shown(get("/compare", 404, question="q999"))


def test_behind_a_row_stand_its_files_and_its_pairs(get: Callable[..., str]) -> None:
    text = shown(get("/behind", file="data/grade.parquet", id="q001/coa/0"))
    itself = text.partition("It is in")[2].partition("Pairs made of it")[0]
    assert "data/sample/coa.parquet q001/coa/0" in itself
    assert "data/branch/pairs.parquet q001/coa/0/3" in text
    assert "Other rows of this question" in text
    assert "the calls are not known: params.yaml is missing" in text


def test_without_a_tokenizer_the_masks_say_what_to_do(get: Callable[..., str]) -> None:
    page = get("/row", 400, file="data/grade.parquet", id="q001/coa/0", masks=1)
    assert "tokenizer=" in shown(page)


def test_only_files_that_are_open_can_be_asked_for(client: TestClient, run: Path) -> None:
    (run / "secret.parquet").write_bytes(Path("data/grade.parquet").read_bytes())
    for name in ("secret.parquet", "../secret.parquet", "/etc/passwd", "data/analyse.parquet"):
        assert client.get("/rows", params={"file": name}).status_code == 404
    row = {"file": "data/grade.parquet", "id": "q999/coa/0"}
    assert client.get("/row", params=row).status_code == 404
    assert client.get("/static/../__main__.py").status_code == 404


def test_other_hosts_are_refused_and_scripts_of_others_never_run(client: TestClient) -> None:
    for path in ("/", "/static/view.js", "/nothing"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    assert client.post("/").status_code == 405


def test_a_file_that_was_written_again_is_read_again(get: Callable[..., str]) -> None:
    assert "179 of 179" in shown(get("/rows", file="data/grade.parquet"))
    tables.write_table(Path("data/grade.parquet"), GradedTrajectory, [graded(1)])
    assert "1 of 1" in shown(get("/rows", file="data/grade.parquet"))
    Path("data/grade.parquet").unlink()
    assert "not there any more" in shown(get("/rows", 500, file="data/grade.parquet"))
    assert "data/grade.parquet" not in shown(get("/"))
