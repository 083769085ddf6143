"""Both kinds of questions that need a calculation are asked about equally often."""

from collections import Counter

from coa.microworld.paths import known_paths
from coa.microworld.plans import PlanKind
from coa.microworld.questions import make_questions
from coa.microworld.world import SPLITS, GroupSize, WorldSettings, make_world
from coa.records.question import Question

SETTINGS = WorldSettings(
    known=GroupSize(30, 20, 10, 10),
    train=GroupSize(40, 30, 16, 16),
    validation=GroupSize(15, 10, 6, 6),
    test=GroupSize(15, 10, 6, 6),
    calculation_share=0.4,
)
WORLD = make_world(SETTINGS)


def kinds_of(questions: list[Question]) -> Counter[str]:
    return Counter(str(question.question_type) for question in questions)


def test_ages_and_years_of_an_age_are_asked_equally_often_in_every_split() -> None:
    for split in SPLITS:
        kinds = kinds_of(make_questions(WORLD, split, 300, seed=0))
        assert kinds[PlanKind.AGE] > 40
        assert 0.8 < kinds[PlanKind.TURNED] / kinds[PlanKind.AGE] < 1.25


def test_no_question_is_asked_twice() -> None:
    asked = [one.question for split in SPLITS for one in make_questions(WORLD, split, 300, seed=0)]
    turned = [text for text in asked if text.startswith("In which year")]
    assert len(turned) > 100
    assert len(turned) == len(set(turned))


def test_no_two_splits_ask_when_a_known_person_had_the_same_age() -> None:
    seen: set[tuple[str, int]] = set()
    for split in SPLITS:
        paths = known_paths(WORLD, split)["turned"]
        found = {(path.facts[0].entity, path.age) for path in paths}
        assert found
        assert not found & seen
        seen |= found
