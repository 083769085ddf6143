"""Make the questions of a split: one to four hops, comparisons, yes or no.

The paths through the facts are enumerated, so no two questions of a call ask the same thing in
other words. A question that has to be searched stays within its split; questions that need known
facts only are dealt out to the splits.
"""

import random
from dataclasses import dataclass, replace

from coa.errors import ConfigError
from coa.microworld.names import Category
from coa.microworld.paths import Path, known_paths, split_paths
from coa.microworld.plans import Plan, PlanKind, question_text
from coa.microworld.relations import RELATIONS
from coa.microworld.world import SPLITS, Group, World
from coa.records.question import Question

SOURCE = "microworld"
_IN_ANY_ORDER = frozenset({PlanKind.OLDER, PlanKind.NEWER, PlanKind.SAME})
"""The kinds of questions that can name their two entities in either order."""


@dataclass(frozen=True, slots=True)
class QuestionMix:
    """The shares of the kinds of questions; the weights of the kinds need not add up to 1."""

    known_share: float
    """Share of all questions that need only known facts."""
    one_hop: float = 0.27
    two_hops: float = 0.36
    three_hops: float = 0.11
    four_hops: float = 0.03
    comparison: float = 0.14
    same: float = 0.08
    age: float = 0.0
    turned: float = 0.0

    def weights(self) -> dict[str, float]:
        """Return the weights by the keys of `coa.microworld.paths`."""
        return {
            "1": self.one_hop,
            "2": self.two_hops,
            "3": self.three_hops,
            "4": self.four_hops,
            "comparison": self.comparison,
            "same": self.same,
            "age": self.age,
            "turned": self.turned,
        }

    def with_calculations(self, share: float) -> "QuestionMix":
        """Return a mix in which the kinds that need a calculation have this share, halved."""
        weight = sum(self.weights().values()) * share / (1 - share)
        return replace(self, age=0.5 * weight, turned=0.5 * weight)


_HELD_OUT = QuestionMix(
    known_share=0.12,
    one_hop=0.25,
    two_hops=0.35,
    three_hops=0.17,
    four_hops=0.06,
    comparison=0.12,
    same=0.05,
)
_MIXES = {
    Group.TRAIN: QuestionMix(known_share=0.30),
    Group.VALIDATION: _HELD_OUT,
    Group.TEST: _HELD_OUT,
}
"""The mix of each split.

A student that should learn when not to search needs more questions that need no search.
"""


def make_questions(world: World, split: Group, count: int, seed: int) -> list[Question]:
    """Draw `count` questions of a split, all different, in random order.

    A kind that has too few paths for its weight gives its share to the others.

    Raises:
        ConfigError: the world has fewer paths than that, or the group is not a split.
    """
    if split not in SPLITS:
        raise ConfigError(
            "only a split has questions", expected=f"one of {', '.join(SPLITS)}", got=split
        )
    mix = _MIXES[split].with_calculations(world.settings.calculation_share)
    rng = random.Random(f"{seed}/questions/{split}")
    num_known = round(count * mix.known_share)
    drawn = _draw_paths(known_paths(world, split), mix, num_known, rng)
    drawn += _draw_paths(split_paths(world, split), mix, count - num_known, rng)
    rng.shuffle(drawn)
    return [_ask(path, split, index, rng) for index, path in enumerate(drawn)]


def _ask(path: Path, split: Group, index: int, rng: random.Random) -> Question:
    kind, facts, age = path
    if kind in _IN_ANY_ORDER:
        facts = tuple(rng.sample(facts, 2))
    text = question_text(kind, facts, rng, age)
    plan = Plan(f"mw-{split}-{index:06d}", text, kind, facts, age)
    is_comparison = kind in (PlanKind.OLDER, PlanKind.NEWER)
    return Question(
        question_id=plan.question_id,
        question=text,
        gold_answers=_with_alias(plan),
        split=str(split),
        question_type="comparison" if is_comparison else str(kind),
        num_hops=len(facts),
        gold_titles=tuple(dict.fromkeys(fact.entity for fact in facts)),
        source=SOURCE,
    )


def _with_alias(plan: Plan) -> tuple[str, ...]:
    """Return the right answer, and another accepted form of a city or a company."""
    if plan.kind is PlanKind.CHAIN:
        category = RELATIONS[plan.facts[-1].relation].value
        if category is Category.CITY:
            return plan.answer, f"city of {plan.answer}"
        if category is Category.COMPANY:
            return plan.answer, f"{plan.answer} Company"
    return (plan.answer,)


def _draw_paths(
    paths: dict[str, list[Path]], mix: QuestionMix, count: int, rng: random.Random
) -> list[Path]:
    """Draw paths by the weights of the mix, as long as a kind has paths left."""
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
    missing = count
    while missing:
        open_keys = [key for key in weights if quotas[key] < len(paths[key])]
        for key, share in _split_by_weight(open_keys, weights, missing).items():
            quotas[key] = min(quotas[key] + share, len(paths[key]))
        missing = count - sum(quotas.values())
    drawn = []
    for key, quota in quotas.items():
        drawn += rng.sample(paths[key], quota)
    return drawn


def _split_by_weight(keys: list[str], weights: dict[str, float], count: int) -> dict[str, int]:
    """Split `count` among the keys by their weights; the rounded shares add up to `count`."""
    total = sum(weights[key] for key in keys)
    shares = {}
    bound = 0.0
    start = 0
    for key in keys:
        bound += weights[key] / total
        end = count if key == keys[-1] else round(bound * count)
        shares[key] = end - start
        start = end
    return shares
