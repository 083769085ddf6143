"""Test the baselines over the one loop, with scripts as policies."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import ConfigError
from coa.policy import Request
from coa.records.trajectory import StopReason
from coa.rollout.loop import Limits
from coa.search import Hit, SearchError
from coa.student.asking import Asking
from coa.student.evaluate_settings import Baseline, BaselineParams, EvaluateParams, mode_of
from evaluation.baselines.self_consistency import vote
from evaluation.evaluate import check
from evaluation.outcomes import Outcome, summarise
from evaluation.spent import Spent
from evaluation.table import TableParams, arrange, write_markdown
from evaluation.tries import summarise_tries
from tests.baseline_support import QUESTIONS, answer_all
from tests.evaluate_support import outcome, result

ANSWERED = "I am done. </think> \\boxed{%s}"
SEARCH = "I need it. <begin_search> Danube </end_search>"
REFLECTED = "I must read the passage about the river itself."
EARLIER = "An earlier answer was wrong."


def is_about_elbe(request: Request) -> bool:
    return "Where does the Elbe end?" in request.context


def learns(request: Request) -> str:
    """Know the Elbe at once, and the Danube only after a reflection."""
    if "What you did:" in request.context:
        return REFLECTED
    if is_about_elbe(request):
        return ANSWERED % "North Sea"
    if "result 1" not in request.context:
        return SEARCH
    return ANSWERED % ("Black Sea" if EARLIER in request.context else "Rhine")


# Reflexion


def test_reflexion_tries_again_only_after_a_wrong_answer_with_a_reflection_that_is_paid(
    tmp_path: Path,
) -> None:
    found, policy = asyncio.run(answer_all(tmp_path, learns, Baseline.REFLEXION))
    danube, elbe = found
    assert [row.grade.exact_match for row in danube.rows] == [False, True]
    assert [row.grade.exact_match for row in elbe.rows] == [True]
    assert [row.trajectory.index for row in danube.rows] == [0, 1]
    reflections = [text for text in policy.contexts if "What you did:" in text]
    assert len(reflections) == 1
    assert "‹begin_search> Danube" in reflections[0] and "answer was wrong" in reflections[0]
    assert "<begin_search> Danube" not in reflections[0]
    first, second = (row.trajectory for row in danube.rows)
    assert EARLIER not in first.prompt
    assert second.prompt.index(REFLECTED) < second.prompt.index("Answer in")
    before, after = danube.spent
    assert (before.requests, before.searches) == (2, 1)
    assert (after.requests, after.searches) == (3, 1)  # one of them for the reflection
    assert [spent.requests for spent in elbe.spent] == [1]
    assert after.tokens > before.tokens > 0


def test_retry_has_as_many_tries_and_no_reflection(tmp_path: Path) -> None:
    params = BaselineParams(num_tries=2)
    found, policy = asyncio.run(answer_all(tmp_path, learns, Baseline.RETRY, params))
    assert [len(answered.rows) for answered in found] == [2, 1]
    assert not found[0].row.grade.exact_match
    assert not any("What you did:" in text for text in policy.contexts)


def test_a_try_whose_search_failed_is_not_repeated(tmp_path: Path) -> None:
    found, _ = asyncio.run(answer_all(tmp_path, learns, Baseline.REFLEXION, engine=BrokenSearch()))
    assert len(found[0].rows) == 1
    assert found[0].row.trajectory.stop_reason is StopReason.TOOL_ERROR
    assert found[1].row.grade.exact_match


class BrokenSearch:
    """A search engine that fails for every query."""

    fingerprint = "broken"

    async def search(self, query: str, limit: int) -> list[Hit]:
        raise SearchError("the disk is gone")


# Retrieve-then-read


def reads(request: Request) -> str:
    """Answer with the sea that the prompt names first."""
    seas = {place: request.context.find(place) for place in ("Black Sea", "North Sea")}
    shown = {place: start for place, start in seas.items() if start >= 0}
    return ANSWERED % (min(shown, key=lambda place: shown[place]) if shown else "nothing")


def test_retrieve_then_read_shows_the_passages_of_one_search(tmp_path: Path) -> None:
    found, _ = asyncio.run(answer_all(tmp_path, reads, Baseline.RETRIEVE_THEN_READ))
    assert all(answered.row.grade.exact_match for answered in found)
    assert [answered.spent for answered in found] == [(Spent(11, 1, 1),)] * 2
    prompt = found[0].row.trajectory.prompt
    assert prompt.index("result 1: Danube") < prompt.index("Question:")
    assert "\\boxed{Rhine}" not in prompt and "</end_search>" not in prompt


def test_a_failed_search_before_the_question_is_a_row_that_says_so(tmp_path: Path) -> None:
    found, policy = asyncio.run(
        answer_all(tmp_path, reads, Baseline.RETRIEVE_THEN_READ, engine=BrokenSearch())
    )
    assert {answered.row.trajectory.stop_reason for answered in found} == {StopReason.TOOL_ERROR}
    assert "the disk is gone" in found[0].row.trajectory.error
    assert policy.contexts == []


# Self-consistency


def wavers(request: Request) -> str:
    """Answer the Danube's question with another sea in two of five draws, or not at all."""
    if is_about_elbe(request):
        return "I do not know."
    return ANSWERED % ("the Black Sea" if request.seed % 5 else "Black sea.")


def test_the_most_frequent_answer_counts_whatever_its_form(tmp_path: Path) -> None:
    found, _ = asyncio.run(answer_all(tmp_path, wavers, Baseline.SELF_CONSISTENCY))
    danube, elbe = found
    assert [len(answered.rows) for answered in found] == [5, 5]
    assert danube.row.grade.exact_match
    assert danube.spent[0].requests == 5 and len(danube.spent) == 1
    assert elbe.row is elbe.rows[0] and not elbe.row.grade.exact_match


def test_of_equally_frequent_answers_the_first_counts_and_silence_has_no_vote(
    tmp_path: Path,
) -> None:
    found, _ = asyncio.run(answer_all(tmp_path, wavers, Baseline.SELF_CONSISTENCY))
    right, silent = found[0].rows[0], found[1].rows[0]
    other = replace(right, grade=replace(right.grade, prediction="Rhine"))
    assert vote([silent, silent, other]) is other
    assert vote([other, right]) is other
    assert vote([other, right, right]) is right
    assert vote([silent]) is silent


# Settings


def test_a_baseline_chooses_how_it_is_asked() -> None:
    params = EvaluateParams(model="m", baseline=Baseline.REACT)
    assert check(params).mode is Asking.REACT
    assert check(replace(params, baseline=Baseline.NO_ACTION)).mode is Asking.COT
    assert check(replace(params, baseline=Baseline.REFLEXION, mode=Asking.REACT)).mode == "react"


def test_settings_that_contradict_a_baseline_are_refused() -> None:
    with pytest.raises(ConfigError, match="not asked in the mode react"):
        mode_of(Baseline.NO_ACTION, Asking.REACT, 0.6)
    with pytest.raises(ConfigError, match="samples that differ"):
        mode_of(Baseline.SELF_CONSISTENCY, Asking.COA, 0.0)
    with pytest.raises(ConfigError, match="num_tries is too small"):
        BaselineParams(num_tries=0)


# The table


def tried(question_id: str, *, is_right: bool, num_tries: int) -> Outcome:
    return outcome(question_id, is_right, spent=(Spent(10, 2, 1),) * num_tries)


def test_exact_match_and_cost_are_given_for_each_number_of_tries() -> None:
    rows = [
        tried("q0", is_right=True, num_tries=1),
        tried("q1", is_right=True, num_tries=2),
        tried("q2", is_right=False, num_tries=3),
        tried("q3", is_right=False, num_tries=3),
    ]
    found = summarise_tries(rows, num_resamples=50, seed=0)
    values = {}
    for number, metrics in found.items():
        values[number] = [each.value for each in metrics.values() if each is not None]
    assert values == {
        "1": [0.25, 10.0, 2.0, 1.0],
        "2": [0.5, 17.5, 3.5, 1.75],
        "3": [0.5, 22.5, 4.5, 2.25],
    }


def test_the_table_says_that_gold_answers_decided_and_what_each_try_cost() -> None:
    setting = replace(result("a", [True]).setting, baseline="reflexion", is_told_by_gold=True)
    rows = [tried("q0", is_right=True, num_tries=2), tried("q1", is_right=True, num_tries=1)]
    found = summarise(setting, rows, num_resamples=50, seed=0)
    found = replace(found, by_tries=summarise_tries(rows, num_resamples=50, seed=0))
    page = write_markdown(arrange([found], {"a": "Reflexion"}), TableParams())
    assert "| Reflexion (gold oracle) | 15.00 | 3.00 | 1.50 | 2 |" in page
    assert "| a | 1 | 50.0 [0.0, 100.0] | 10.00 | 2.00 | 1.00 |" in page
    assert "| a | 2 | 100.0 [100.0, 100.0] | 15.00 | 3.00 | 1.50 |" in page


def test_the_table_shows_the_dollars_of_a_question_where_there_are_prices() -> None:
    paid = replace(result("a", [True, False]), costs={"dollars": 0.5})
    free = replace(result("b", [True, False]), costs={"dollars": None})
    page = write_markdown(arrange([paid, free], {}), TableParams())
    assert "| system | tokens | requests | searches | dollars | `answered` |" in page
    assert "| a |  |  |  | 0.250000 | 2 |" in page
    assert "| b |  |  |  |  | 2 |" in page
    assert "| dollars |" not in write_markdown(arrange([free], {}), TableParams())


# Hostile policies


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", StopReason.NO_ANSWER),
        (SEARCH, StopReason.ACTION_BUDGET),
        ("I go on and on. <begin_search> Danube", StopReason.NO_ANSWER),
        ("so " * 500, StopReason.TRUNCATED),
    ],
)
@pytest.mark.parametrize("baseline", [Baseline.NONE, Baseline.REFLEXION])
def test_a_hostile_policy_is_seen_in_the_counts_of_the_table(
    tmp_path: Path, text: str, reason: StopReason, baseline: Baseline
) -> None:
    limits = Limits(max_actions=3, max_context_tokens=300)
    found, _ = asyncio.run(
        answer_all(tmp_path, lambda _: text, baseline, BaselineParams(num_tries=2), limits=limits)
    )
    assert {answered.row.trajectory.stop_reason for answered in found} == {reason}
    rows = []
    for answered in found:
        row = answered.row.trajectory
        rows.append(
            outcome(
                row.question_id,
                False,
                stop_reason=row.stop_reason,
                spent=answered.spent,
                is_broken=True,
            )
        )
    summed = summarise(result("a", [True]).setting, rows, num_resamples=50, seed=0)
    page = write_markdown(arrange([summed], {}), TableParams())
    costs = page.partition("### Cost and ends")[2].partition("### Exact match by")[0]
    assert f"| system | tokens | requests | searches | `{reason}` |" in costs
    assert costs.count(f"| {len(QUESTIONS)} |") == 1
    num_tries = 1 if baseline is Baseline.NONE else 2
    assert {len(answered.rows) for answered in found} == {num_tries}
