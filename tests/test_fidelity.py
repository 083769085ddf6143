"""Measure what a world model's predictions are worth beside real observations."""

import asyncio
from dataclasses import replace

import pytest

from coa.policy import Completion, Finish
from coa.policy.scripted import ScriptedPolicy
from coa.records.graded import GradedTrajectory
from coa.records.protocol import observation, parse
from coa.records.question import Question
from coa.records.trajectory import Outcome as ToolOutcome
from coa.records.trajectory import StopReason
from coa.rollout.simulated import SimulatedTools
from coa.search import Hit, Passage
from coa.search.tool import Numbering, ObservationSettings, show
from coa.student.knowledge import NOBODY_CAN_TELL
from evaluation import fidelity
from evaluation.fidelity import FidelityParams
from evaluation.held_out_searches import Prediction, Probe, compare, find_probes, predict
from tests.sample_records import make_graded


def probe(
    real: str = "result 1: The year of Iron Harbor is 1999.", answers: tuple[str, ...] = ("1999",)
) -> Probe:
    rows = [row_of(real)]
    return replace(
        next(find_probes(rows, NOBODY_CAN_TELL)),
        answers=answers,
    )


def row_of(real: str) -> GradedTrajectory:
    steps = (
        *parse("I look. <begin_search> Iron Harbor </end_search>"),
        observation("search", real, ToolOutcome.OK),
    )
    asked = Question("q", "When?", ("1999",), "test")
    prompt = "Question: When?\n\n<think>\n"
    return make_graded(asked, steps, prompt=prompt, stop_reason=StopReason.NO_ANSWER)


def test_a_world_model_is_asked_with_the_text_up_to_the_opening_tag() -> None:
    policy = ScriptedPolicy([" result 1: It is of 1999. </search_result>"])
    found = asyncio.run(
        predict(SimulatedTools(policy, max_tokens=64), policy, [probe()], Numbering.RESULT)
    )
    assert policy.requests is not None
    (request,) = policy.requests
    assert request.context.endswith("<begin_search> Iron Harbor </end_search>\n<search_result>")
    assert (request.stop, request.temperature) == (("</search_result>",), 0.0)
    assert found[0].is_well_formed and found[0].bears_answer


@pytest.mark.parametrize(
    ("predicted", "finish", "expected"),
    [
        (
            " result 1: The year of Iron Harbor is 1999. </search_result>",
            Finish.STOP,
            (True, 1.0, True),
        ),
        (
            " result 1: The year of Iron Harbor is 1998. </search_result>",
            Finish.STOP,
            (True, 0.875, False),
        ),
        (" result 1: The year of Iron Harbor is 1999.", Finish.LENGTH, (False, 1.0, True)),
        (" 1999 </search_result>", Finish.STOP, (False, 0.2222, True)),
        (" result 1: <begin_search> 1999 </search_result>", Finish.STOP, (False, None, True)),
        (" </search_result>", Finish.STOP, (False, 0.0, False)),
    ],
)
def test_a_prediction_is_compared_with_the_real_observation(
    predicted: str, finish: Finish, expected: tuple[bool, float | None, bool]
) -> None:
    found = compare(probe(), Completion(predicted, finish, 8))
    assert (found.is_well_formed, found.bears_answer) == (expected[0], expected[2])
    assert expected[1] is None or found.f1 == pytest.approx(expected[1], abs=1e-3)


@pytest.mark.parametrize("numbering", Numbering)
@pytest.mark.parametrize("shows_titles", [True, False])
def test_a_prediction_is_well_formed_where_its_lines_are_numbered_as_the_search_does(
    numbering: Numbering, shows_titles: bool
) -> None:
    hits = [Hit(Passage("p", "Iron Harbor", "It is of 1999."), 1.0)] * 2
    shown = {
        other: "\n".join(
            show(hits, ObservationSettings(numbering=other, shows_titles=shows_titles))
        )
        for other in Numbering
    }

    def is_well_formed(predicted: str) -> bool:
        reply = Completion(f" {predicted} </search_result>", Finish.STOP, 8)
        return compare(probe("No results."), reply, numbering).is_well_formed

    assert is_well_formed(shown[numbering])
    others = [text for other, text in shown.items() if other is not numbering]
    assert [is_well_formed(text) for text in others] == [numbering is Numbering.NONE] * 3
    assert not is_well_formed("")


def test_poor_predictions_raise_a_warning_and_good_ones_none() -> None:
    params = FidelityParams()
    good, poor = Prediction(True, 1.0, True, None), Prediction(True, 0.2, False, False)
    assert fidelity.report(params, [good] * 10).warnings == ()
    (doubt,) = fidelity.report(params, [poor] * 10).warnings
    assert doubt.startswith(
        "answer bearing: 0 [0, 0], below 0.5; harmless where train.rl1.rewards pays"
    )
