"""Write a run of hundreds of items and review them as people do, for the tests of the server."""

import threading
from pathlib import Path
from typing import Any

import httpx
import yaml

from annotate.layouts import is_chosen_left
from coa.records import protocol
from coa.records.causes import Analysis, Cause
from coa.records.drops import Dropped, DropReason
from coa.records.exclusions import Excluded
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Outcome, Step, StepKind
from coa.store import tables
from coa.store.reviews import (
    Review,
    read_reviews,
    write_reviews,
)
from tests.sample_records import make_analysis, make_graded, make_pair

NUM_TRAJECTORIES, NUM_PAIRS, NUM_DISPUTES = 200, 200, 100
DATA_SETS = {"trajectories": NUM_TRAJECTORIES, "pairs": NUM_PAIRS, "disputes": NUM_DISPUTES}
HOSTILE = (
    "<script>document.title = 'ran'</script>\n\n**bold** $& </scr"
    "ipt> <img src=x onerror=\"document.title='ran'\">"
)


def graded(number: int, answer: str) -> GradedTrajectory:
    """A trajectory with one search; its observation is what the web may hold."""
    asked = Question(
        f"q{number:04}", f"Who wrote number {number}?", ("Ada", "A. L."), "train", "bridge", 2
    )
    call = f"{protocol.open_tag('search')} number {number} {protocol.close_tag('search')}"
    steps = (
        Step(StepKind.THOUGHT, Author.POLICY, "I have to look. "),
        Step(StepKind.ACTION, Author.POLICY, call, "search", f"number {number}"),
        protocol.observation("search", f"result 1: {HOSTILE} marker{number}", Outcome.OK),
        *protocol.parse_policy(f"So. {protocol.THINK_CLOSE} \\boxed{{{answer}}}"),
    )
    return make_graded(asked, steps)


def pair_of(row: GradedTrajectory) -> PreferencePair:
    it = row.trajectory
    guess = protocol.parse_policy(f"Guess. {protocol.THINK_CLOSE} \\boxed{{Bo}}")
    return make_pair(it, it.steps[1:], guess, point=16, prefix=it.steps[:1])


def write_run(root: Path, folder: Path) -> None:
    """The files of a run: right trajectories, wrong ones close to right, pairs."""
    right = [graded(i, "Ada") for i in range(NUM_TRAJECTORIES)]
    wrong = [graded(i, f"Ada the {i}th") for i in range(1000, 1000 + NUM_DISPUTES)]
    data = folder / "data"
    sections = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    sections["annotate"]["serve"]["state"] = "state"
    sizes = {
        "num_cot_a": 100,
        "num_coa": 100,
        "num_cot": 0,
        "num_rl": 0,
        "allows_fewer": False,
        "validation_share": 0.0,
        "seed": 0,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({**sections, "assemble": sizes}))
    rows = [*right, *wrong]
    tables.write_table(data / "grade.parquet", GradedTrajectory, rows)
    causes = [None] * len(right) + [Cause.GRADED_WRONG] * len(wrong)
    tables.write_table(data / "analyse.parquet", Analysis, map(make_analysis, rows, causes))
    tables.write_table(data / "branch/pairs.parquet", PreferencePair, map(pair_of, right))
    tables.write_table(data / "filter/kept.parquet", GradedTrajectory, right)
    tables.write_table(
        data / "filter/dropped.parquet",
        Dropped,
        [Dropped(DropReason.WRONG, "", row) for row in wrong],
    )
    tables.write_table(data / "screen/excluded.parquet", Excluded, [])
    asked = [
        Question(row.trajectory.question_id, row.trajectory.question, row.gold_answers, "train")
        for row in rows
    ]
    tables.write_table(data / "questions.parquet", Question, asked)
    write_reviews([], data / "reviews.parquet")


class Person:
    """A reviewer who signs in with a password and speaks to the API as the page does."""

    def __init__(self, http: httpx.Client, name: str, password: str) -> None:
        self.http = http
        answer = self.http.post("/api/v1/token", data={"username": name, "password": password})
        answer.raise_for_status()
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def json(self, method: str, path: str, **more: Any) -> Any:
        answer = self.http.request(method, path, **more)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def data_set(self, name: str) -> str:
        found = self.json("GET", "/api/v1/me/datasets")["items"]
        return next(str(it["id"]) for it in found if it["name"] == name)

    def pending(self, data_set: str, limit: int = 50, offset: int = 0) -> list[dict[str, Any]]:
        """What the page would show next."""
        status = {
            "type": "terms",
            "scope": {"entity": "response", "property": "status"},
            "values": ["pending"],
        }
        found = self.json(
            "POST",
            f"/api/v1/me/datasets/{data_set}/records/search",
            params={"limit": limit, "offset": offset},
            json={"filters": {"type": "and", "and": [status]}},
        )
        return [it["record"] for it in found["items"]]

    def submit(self, record: dict[str, Any], status: str = "submitted", **values: Any) -> None:
        body = {
            "status": status,
            "values": {name: {"value": value} for name, value in values.items()},
        }
        self.json("POST", f"/api/v1/records/{record['id']}/responses", json=body)


def person(server: Any, name: str) -> Person:
    http = server.connections.enter_context(httpx.Client(base_url=server.url, timeout=60))
    return Person(http, name, server.passwords[name])


def review_all(server: Any) -> None:
    """Anna and Ben review the same twenty items of each kind, at the same time."""
    anna, ben = person(server, "anna"), person(server, "ben")
    chosen = {name: anna.pending(anna.data_set(f"coa-{name}"), 20) for name in DATA_SETS}

    def work(who: Person) -> None:
        for record in chosen["trajectories"]:
            who.submit(
                record, verdict="drop", answer_right="yes", causes=["bad_query"], search_quality=4
            )
        for record in chosen["disputes"]:
            who.submit(record, same_answer="yes")
        for record in chosen["pairs"]:
            is_chosen_left_here = is_chosen_left(record["external_id"].rpartition("@")[0])
            who.submit(record, preference="B" if is_chosen_left_here else "A", clarity=5)

    people = [threading.Thread(target=work, args=(who,)) for who in (anna, ben)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()


def reviews(server: Any) -> list[Review]:
    return read_reviews(server.folder / "data/reviews.parquet")
