"""Write the files of a small run and read its cards, for their tests."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from huggingface_hub import DatasetCard

from coa.records import protocol
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.records.trajectory import (
    Author,
    Mode,
    Outcome,
    Step,
    StepKind,
)
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.render import OUT
from tests.sample_records import make_pair, make_trajectory

datasets = pytest.importorskip("datasets")
metadata = pytest.importorskip("datasets.utils.metadata")
SIZES = AssembleParams(num_cot_a=8, num_coa=9, num_cot=5, num_rl=4)
ROOT = Path(__file__).parent.parent
TEACHER = "scripted/microworld-12345678"
HOSTILE = (
    "```\n---\nlicense: mit\n---\n# Owned\n<script>x</script> {{ title }} {% raw %} | a | "
    "\x00 \u202e ![x](http://evil)"
)


def question(
    number: int, text: str = "Who leads Villa Pellin?", split: str = "train", **others: Any
) -> Question:
    kind = "chain" if number % 3 else "comparison"
    fields: dict[str, Any] = {
        "question_type": kind,
        "num_hops": 1 + number % 2,
        "source": "microworld",
        **others,
    }
    return Question(f"q-{number:03}", text, ("Felix Brandt",), split, **fields)


def steps(num_actions: int, thought: str = "I need the leader. ") -> tuple[Step, ...]:
    turn = (
        *protocol.parse_policy(
            f"{thought}{protocol.open_tag('search')} leader {protocol.close_tag('search')}"
        ),
        protocol.observation("search", "The leader is Felix Brandt.", Outcome.OK, ("p-1",)),
    )
    return (
        *turn * num_actions,
        *protocol.parse_policy("It says so.\n</think>\n\n\\boxed{Felix Brandt}"),
    )


def trajectory(asked: Question, mode: Mode, num_actions: int, **others: Any) -> GradedTrajectory:
    values: dict[str, Any] = {
        "prompt": "Question: ?\n<think>\n",
        "model": TEACHER,
        "prompt_hash": "0123456789abcdef",
        "search_fingerprint": "tantivy:abc/top2" if mode is Mode.COA else "",
        "num_prompt_tokens": 5,
        "num_policy_tokens": 10 + num_actions,
        "num_environment_tokens": 7 * num_actions,
        "num_calls": 1 + num_actions,
        "num_actions": num_actions,
    }
    made = replace(make_trajectory(asked, steps(num_actions), mode), **(values | others))
    return grade_trajectory(made, asked)


def pair(asked: Question, kind: PairKind) -> PreferencePair:
    acting, thinking = steps(1, " "), steps(0)
    chosen, rejected = (acting, thinking) if kind is PairKind.ACT_IS_BETTER else (thinking, acting)
    right = int(kind is PairKind.ACT_IS_BETTER)
    parent = trajectory(asked, Mode.COT, 0).trajectory
    return make_pair(
        parent,
        chosen,
        rejected,
        point=19,
        kind=kind,
        prefix=(Step(StepKind.THOUGHT, Author.POLICY, "I need the leader."),),
        chosen_id=f"{parent.trajectory_id}/19/act/0",
        rejected_id=parent.trajectory_id,
        num_act=2,
        num_act_correct=2 * right,
        num_think_correct=1 - right,
        model=TEACHER,
        search_fingerprint="tantivy:abc/top2",
    )


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """A file of another stage, of which only some columns are read."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(list(rows)).write_parquet(path)


def write_run(
    questions: list[Question], coa: list[GradedTrajectory], cot: list[GradedTrajectory]
) -> None:
    """Write the files of a run: the last row of every set is its validation split."""
    pairs = [pair(row, list(PairKind)[i % 3 == 0]) for i, row in enumerate(questions[:9])]
    rl = [row for row in questions if row.split == "train"][-5:]
    rows: dict[SetName, tuple[type, list[Any]]] = {
        SetName.COT_A: (PreferencePair, pairs),
        SetName.COA: (GradedTrajectory, coa),
        SetName.COT: (GradedTrajectory, cot),
        SetName.RL: (Question, rl),
    }
    for name, (record, found) in rows.items():
        tables.write_table(local_path(name, "train"), record, found[:-1])
        tables.write_table(local_path(name, "validation"), record, found[-1:])
    tables.write_table(Path("data/questions.parquet"), Question, questions)
    kept = [{"trajectory": {"mode": str(row.trajectory.mode)}} for row in (*coa, *cot)]
    write_rows("data/filter/kept.parquet", kept)
    dropped = [("wrong", "coa")] * 7 + [("no_answer", "coa")] * 2 + [("wrong", "cot")] * 40
    write_rows(
        "data/filter/dropped.parquet",
        ({"reason": reason, "row": {"trajectory": {"mode": mode}}} for reason, mode in dropped),
    )
    write_rows(
        "data/grade.parquet",
        ({"trajectory": {"question_id": row.question_id}} for row in questions[:12]),
    )
    outcomes = ["paired"] * 9 + ["same_outcome"] * 80 + ["unsound"] * 3
    write_rows("data/branch/points.parquet", ({"outcome": outcome} for outcome in outcomes))
    write_rows("data/branch/pairs.parquet", ({"kind": str(row.kind)} for row in pairs))


def write_settings(**render: Any) -> None:
    """params.yaml and prompts."""
    section = {
        "title": "A title",
        "repository": "",
        "languages": ["en"],
        "licenses": {"microworld": "Apache-2.0"},
    }
    server = {"base_url": "http://secret.host:8000/v1", "api_key_env": "SECRET_KEY", "model": "m"}
    profile = yaml.safe_load((ROOT / "conf/microworld.yaml").read_text(encoding="utf-8"))
    training = profile["train"]
    params = {
        "prompts": {"cot": "cot.txt", "coa": "coa.txt"},
        "train": {**training, "prompt": "coa.txt"},
        "assemble": asdict(SIZES),
        "sample": {"note": HOSTILE.replace("\x00", "")},
        "teacher": {"chat_template": "{prompt}\n", "server": server},
        "render": {**section, **render},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for mode in Mode:
        Path(f"{mode}.txt").write_text("Question: {question}", encoding="utf-8")


def plain_run() -> None:
    questions = [question(i) for i in range(18)] + [
        question(90 + i, split="test") for i in range(4)
    ]
    coa = [trajectory(row, Mode.COA, i % 4) for i, row in enumerate(questions[:10])]
    cot = [trajectory(row, Mode.COT, 0) for row in questions[:6]]
    write_run(questions, coa, cot)
    write_settings()


def card(name: str) -> DatasetCard:
    return DatasetCard((OUT / name / "README.md").read_text(encoding="utf-8"))


def head(name: str) -> dict[str, Any]:
    """The metadata of a card, as the Hub's own class reads it."""
    return dict(card(name).data.to_dict())  # type: ignore[no-untyped-call]


def cells(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table after `heading`, without its head."""
    lines = iter(text[text.index(heading) :].split("\n"))
    table = takewhile(
        lambda line: line.startswith("|"), dropwhile(lambda line: not line.startswith("|"), lines)
    )
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in list(table)[2:]]
