"""How far a judge agrees with the rules, on judges whose errors are known."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.judging.judge import Judge, judge_all
from coa.judging.scripted import scripted_judge
from coa.policy import Policy
from coa.policy.scripted import ScriptedPolicy
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.settings.params import write_profile
from coa.store import tables
from curate.judge_agreement import (
    RULES,
    Judged,
    RecordedVerdict,
    as_markdown,
    compare,
    main,
    read_graded,
    read_recorded,
)
from synth.ingest import main as ingest
from tests.judge_support import OPEN, PROMPTS, answered
from tests.sample_records import make_graded

ROOT = Path(__file__).parent.parent


def rows(number: int) -> list[GradedTrajectory]:
    """Answers to as many questions, of which every second one is right."""
    made = []
    for i in range(number):
        question = Question(f"q{i}", f"Who is {i}?", (f"Ada {i}",), "train")
        answer = f"Ada {i}" if i % 2 else f"Bob {i}"
        steps = protocol.parse_policy(f"So.</think> \\boxed{{{answer}}}")
        made.append(make_graded(question, steps))
    return made


def judged_by(policy: Policy, rows: list[GradedTrajectory]) -> list[GradedTrajectory]:
    async def stream() -> AsyncIterator[GradedTrajectory]:
        for row in rows:
            yield row

    async def collect() -> list[GradedTrajectory]:
        return [row async for row in judge_all(Judge(PROMPTS, policy), stream())]

    return asyncio.run(collect())


def test_a_tenth_of_flipped_verdicts_is_reported_as_a_tenth() -> None:
    found = read_graded(judged_by(scripted_judge(0.1), rows(2000)))
    exact = next(compare(found))
    assert exact.rule == "exact match" and len(found.pairs) == 2000
    assert exact.disagreement.low < 0.1 < exact.disagreement.high
    assert exact.disagreement.high - exact.disagreement.low < 0.03
    assert exact.kappa is not None and exact.kappa.low < 0.8 < exact.kappa.high


def test_a_judge_that_compares_as_exact_match_does_agrees_wholly() -> None:
    exact = next(compare(read_graded(judged_by(scripted_judge(), rows(60)))))
    assert (exact.both, exact.only_rule, exact.only_judge, exact.neither) == (30, 0, 0, 30)
    assert exact.agreement.value == 1.0 and exact.disagreement.value == 0.0
    assert exact.kappa is not None and exact.kappa.value == 1.0


def test_what_was_not_judged_is_counted_and_takes_no_part() -> None:
    nonsense = judged_by(ScriptedPolicy(["?", "CORRECT", "CORRECT"]), rows(3))
    unasked = [answered("Paris"), answered("x", OPEN)]
    found = read_graded([*nonsense, *unasked])
    assert found.not_judged == {"unreadable": 1, "not asked": 1}
    assert (len(found.pairs), found.num_open) == (2, 1)
    page = as_markdown(found, list(compare(found)))
    assert "2 answers were not judged (1 not asked, 1 unreadable), 1 questions are open" in page


def test_rules_differ_where_the_answer_is_longer_or_shorter() -> None:
    grades = [answered(text).grade for text in ("Paris", "Paris in France", "Rome")]
    assert [[rule(grade) for grade in grades] for rule in RULES.values()] == [
        [True, False, False],
        [True, True, False],
        [True, True, False],
    ]


def test_recorded_verdicts_of_a_judge_and_of_exact_match_are_compared_apart() -> None:
    recorded = [
        RecordedVerdict(True, True, "Paris", ("Paris",)),
        RecordedVerdict(False, None, "Rome", ("Paris",)),
        RecordedVerdict(None, False, "Rome", ()),
    ]
    by_judge, by_match = read_recorded(recorded)
    assert (len(by_judge.pairs), by_judge.not_judged) == (2, {"not recorded": 1})
    assert (len(by_match.pairs), by_match.not_judged) == (1, {"not recorded": 2})


def test_kappa_is_cohens_with_an_interval_around_it() -> None:
    # 20 and 15 of 50 as in Wikipedia's example, whose kappa is 0.4.
    right, wrong = answered("Paris").grade, answered("Rome").grade
    counts = [(right, True)] * 20 + [(right, False)] * 5 + [(wrong, True)] * 10
    kappa = next(compare(Judged(pairs=[*counts, *[(wrong, False)] * 15]))).kappa
    assert kappa is not None and kappa.value == pytest.approx(0.4)
    assert kappa.low < 0.4 < kappa.high and kappa.high - 0.4 == pytest.approx(0.2540, abs=1e-4)


def test_the_command_needs_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_profile(ROOT / "conf/tiny.yaml", base=ROOT / "conf/microworld.yaml")
    graded = Path("data/grade.parquet")
    tables.write_table(graded, GradedTrajectory, rows(2))
    with pytest.raises(InputError, match="no row has a verdict"):
        main([])
    tables.write_table(graded, GradedTrajectory, judged_by(scripted_judge(), rows(20)))
    assert "disagree on 0.000 [0.000, 0.161] of 20 answers" in main([])
    assert "| exact match | 1.000" in Path("reports/judge_agreement.md").read_text()


@pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ, reason="COA_REAL_DATA does not name the folder of real data"
)
def test_real_files_record_what_we_grade_and_gpt_4o_accepts_170_answers_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synth").symlink_to(ROOT / "synth")
    write_profile(ROOT / "conf/tiny.yaml", base=ROOT / "conf/microworld.yaml")
    folder = f"{os.environ['COA_REAL_DATA']}/trajectories"
    names = ("*r1searcher_hotpotqa_*", "*fireact_hotpotdev500_*")
    entries = [f'{{path: "{folder}/{name}.jsonl"}}' for name in names]
    ingest([f"ingest.files=[{', '.join(entries)}]"])
    recorded = tables.read_table(Path("data/ingest/recorded.parquet"), RecordedVerdict)
    by_judge, by_match = read_recorded(recorded)
    exact, cover, f1 = compare(by_judge)
    assert (exact.only_rule, exact.only_judge) == (1, 170)
    assert (cover.only_rule, cover.only_judge) == (9, 119)
    assert (f1.only_rule, f1.only_judge) == (23, 28)
    ours = next(compare(by_match))
    assert (len(by_match.pairs), ours.only_rule, ours.only_judge) == (951, 0, 0)
