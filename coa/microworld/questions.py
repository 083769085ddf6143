"""A world -> questions of a split.

The paths through the facts are enumerated, so every question of a call asks something else, not the same thing in other
words; a question that has to be searched stays within its split, and what needs known facts only is dealt out.
"""

import itertools
import random
from dataclasses import dataclass

from coa.errors import ConfigError
from coa.microworld.names import Category
from coa.microworld.paths import known_paths, split_paths
from coa.microworld.plans import Facts, Plan, PlanKind, make_plan, question_text
from coa.microworld.relations import RELATIONS
from coa.microworld.world import SPLITS, Group, World
from coa.question import Question

SOURCE = "microworld"


@dataclass(frozen=True, slots=True)
class QuestionMix:
    """What shares the questions have; the weights of the kinds need not add up to 1."""

    known_share: float
    """Of all questions, how many need only known facts."""
    one_hop: float = 0.27
    two_hops: float = 0.36
    three_hops: float = 0.11
    four_hops: float = 0.03
    comparison: float = 0.14
    same: float = 0.08

    def weights(self) -> dict[str, float]:
        """The weights by the keys that `paths` uses."""
        hops = (self.one_hop, self.two_hops, self.three_hops, self.four_hops)
        return {str(i + 1): weight for i, weight in enumerate(hops)} | {
            "comparison": self.comparison,
            "same": self.same,
        }


_HELD_OUT = QuestionMix(
    known_share=0.12,
    one_hop=0.25,
    two_hops=0.35,
    three_hops=0.17,
    four_hops=0.06,
    comparison=0.12,
    same=0.05,
)
DEFAULT_MIX = {
    Group.TRAIN: QuestionMix(known_share=0.30),
    Group.VALIDATION: _HELD_OUT,
    Group.TEST: _HELD_OUT,
}
"""The mix of each split: a student that is to learn when not to search needs more questions that need no search."""


def make_questions(
    world: World, split: Group, count: int, seed: int, mix: QuestionMix | None = None
) -> list[Question]:
    """Draw `count` questions of a split, all different, in random order; without a mix, the split's default.

    A kind that has too few paths for its weight gives its share to the others.

    Raises:
        ConfigError: the world has fewer paths than that, or the group is no split.
    """
    if split not in SPLITS:
        raise ConfigError(
            "only a split has questions", expected=f"one of {', '.join(SPLITS)}", got=split
        )
    mix = mix or DEFAULT_MIX[split]
    rng = random.Random(f"{seed}/questions/{split}")
    num_known = round(count * mix.known_share)
    drawn = _draw(known_paths(world, split), mix, num_known, rng) + _draw(
        split_paths(world, split), mix, count - num_known, rng
    )
    rng.shuffle(drawn)
    return [_ask(kind, path, split, i, rng) for i, (kind, path) in enumerate(drawn)]


def plan_question(world: World, question: Question) -> Plan:
    """Find the facts that a question needs.

    Raises:
        InputError: the question was not made from this world.
    """
    return make_plan(world, question.question, question.question_id)


def _ask(kind: PlanKind, path: Facts, split: Group, index: int, rng: random.Random) -> Question:
    if kind is not PlanKind.CHAIN:
        path = tuple(rng.sample(path, 2))
    text = question_text(kind, path, rng)
    plan = Plan(f"mw-{split}-{index:06d}", text, kind, path)
    return Question(
        question_id=plan.question_id,
        question=text,
        gold_answers=_with_alias(plan),
        split=str(split),
        question_type="comparison" if kind in (PlanKind.OLDER, PlanKind.NEWER) else str(kind),
        num_hops=len(path),
        gold_titles=tuple(dict.fromkeys(fact.entity for fact in path)),
        source=SOURCE,
    )


def _with_alias(plan: Plan) -> tuple[str, ...]:
    category = RELATIONS[plan.facts[-1].relation].value if plan.kind is PlanKind.CHAIN else None
    if category is Category.CITY:
        return plan.answer, f"city of {plan.answer}"
    if category is Category.COMPANY:
        return plan.answer, f"{plan.answer} Company"
    return (plan.answer,)


def _draw(
    paths: dict[str, list[tuple[PlanKind, Facts]]], mix: QuestionMix, count: int, rng: random.Random
) -> list[tuple[PlanKind, Facts]]:
    """Draw paths by the weights of the mix, as far as each kind reaches."""
    weights = {key: weight for key, weight in mix.weights().items() if weight > 0}
    available = sum(len(paths[key]) for key in weights)
    if count > available:
        raise ConfigError(
            "the world has too few questions",
            expected=f"at most {available} of them with this mix",
            got=count,
            fix="ask for fewer questions, change the known share, or make the world larger",
        )
    quotas = dict.fromkeys(weights, 0)
    while missing := count - sum(quotas.values()):
        for key in _shares([k for k in weights if quotas[k] < len(paths[k])], weights, missing):
            quotas[key] = min(quotas[key] + 1, len(paths[key]))
    return [item for key, quota in quotas.items() for item in rng.sample(paths[key], quota)]


def _shares(keys: list[str], weights: dict[str, float], count: int) -> list[str]:
    """`count` keys, each as often as its weight says."""
    total = sum(weights[key] for key in keys)
    bounds = list(itertools.accumulate(weights[key] / total for key in keys))
    ends = [*(round(bound * count) for bound in bounds[:-1]), count]
    return [
        key
        for key, start, end in zip(keys, [0, *ends], ends, strict=False)
        for _ in range(end - start)
    ]
