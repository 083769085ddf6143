"""Score the points at which a trajectory can be forked.

    score = blame + 0.4 doubt

Blame is 1 at the point that the primary cause blames, 0.5 at that of a contributing one and behind
the sentence that states a wrong fact, and 0 elsewhere. Doubt, from 0 to 1, is the policy's own,
whether to search there. So it decides where nothing is blamed, and between points that are blamed
alike. After the point that the primary cause blames, it counts for nothing: what follows builds on
a wrong fact.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import NamedTuple

from coa.policy import Scorer
from coa.policy.local.model import LocalPolicy
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.causes import Cause
from coa.records.pairs import Arm
from coa.records.trajectory import Step, StepKind
from coa.rollout.factory import PolicyKind
from coa.rollout.forks import BranchParams, PointChoice, forking_policy, load_prompts
from coa.settings.params import Params
from curate.diagnosis.claims import SENTENCE_END, Basis, basis_of
from curate.forks.blamed_points import Blamed, blamed_places, read_blamed
from curate.forks.choice import Fork

_PRIMARY = 1.0
_LESSER = 0.5
"""The blame of a contributing cause, and of the sentence that has stated a wrong fact: a search
after it can put it right, but a wrong word stands before."""
_DOUBT = 0.4
"""The weight of doubt: less than the step between two kinds of blame, so blame goes first."""
_DOUBT_BEFORE = 0.5
"""The doubt of a hedge in the sentence before a point; one in the sentence after it, where a fact
is stated instead of searched for, counts fully."""
_NEAR = 300
"""So many characters on either side of a point are searched for words of doubt."""
_WONDERS = re.compile(
    r"\b(might|guess|wonder|(?:don't|do not|can't|cannot) (?:know|remember|recall))\b",
    re.IGNORECASE,
)
"""Words of doubt that state no value; `curate.diagnosis.claims` knows those that state one."""

Doubts = Callable[[Sequence[Fork]], list[float]]
"""Tells the policy's doubt, from 0 to 1, at each of some points of one trajectory."""


class _Blame(NamedTuple):
    weight: float
    cause: Cause


class PointScores:
    """Scores the points of trajectories by their analysis and by the policy's doubt."""

    def __init__(self, blamed: Mapping[str, Sequence[Blamed]], doubts: Doubts) -> None:
        """Take what the analysis found in each trajectory, by its id, and a measure of doubt."""
        self._blamed = blamed
        self._doubts = doubts

    def __call__(self, forks: Sequence[Fork]) -> list[Fork]:
        """Return the forks of one trajectory with their scores and the causes blamed there."""
        if not forks:
            return []
        parent = forks[0].parent.trajectory
        blamed = self._blamed.get(parent.trajectory_id, ())
        blames = _find_blames(parent.steps, blamed, forks)
        primary = [point for point, blame in blames.items() if blame.weight == _PRIMARY]
        wrong_from = min(primary, default=None)  # The outcome was decided there.
        scored = []
        for fork, doubt in zip(forks, self._doubts(forks), strict=True):
            blame = blames.get(fork.point)
            score = blame.weight if blame else 0.0
            if wrong_from is None or fork.point <= wrong_from:
                score += _DOUBT * doubt
            cause = str(blame.cause) if blame else ""
            scored.append(replace(fork, score=round(score, 3), cause=cause))
        return scored


def _find_blames(
    steps: Sequence[Step], blamed: Sequence[Blamed], forks: Sequence[Fork]
) -> dict[int, _Blame]:
    """Find the blame of each point that has any; the first finding that blames it counts."""
    blames: dict[int, _Blame] = {}
    for place in blamed_places(steps, blamed):
        points = [fork.point for fork in forks if fork.arm is place.arm]
        weight = _PRIMARY if place.is_primary else _LESSER
        for point in place.nearest(points):
            blames.setdefault(point, _Blame(weight, place.cause))
            weight = _LESSER
    return blames


def doubt_in_words(forks: Sequence[Fork]) -> list[float]:
    """Tell the doubt that a policy's words show near each point.

    A call of the tool is as clear a sign as a hedge: the policy did not trust its memory there.
    """
    return [_doubt_near(fork) for fork in forks]


def _doubt_near(fork: Fork) -> float:
    if fork.arm is Arm.THINK:
        return 1.0
    before, after = protocol.split_at(fork.parent.trajectory.steps, fork.point)
    if after and after[0].kind is StepKind.THOUGHT:
        next_sentence = SENTENCE_END.split(after[0].text[:_NEAR].lstrip())[0]
        if _is_doubtful(next_sentence):
            return 1.0
    if before and before[-1].kind is StepKind.THOUGHT:
        last_sentence = SENTENCE_END.split(before[-1].text[-_NEAR:].rstrip())[-1]
        if _is_doubtful(last_sentence):
            return _DOUBT_BEFORE
    return 0.0


def _is_doubtful(sentence: str) -> bool:
    return basis_of(sentence) is Basis.GUESSED or _WONDERS.search(sentence) is not None


class TriggerDoubt:
    """Tells doubt by the probability with which the policy would call the tool at a point.

    It is 1 where the policy calls it half of the time, and 0 where it always or never does.
    """

    def __init__(self, scorer: Scorer, prompt: Prompt) -> None:
        """Ask `scorer`; `prompt` is the one that offers the tool."""
        self._scorer = scorer
        self._prompt = prompt.for_policy(scorer)

    def __call__(self, forks: Sequence[Fork]) -> list[float]:
        """Tell the doubt at each point."""
        contexts: list[tuple[int, ...]] = []
        triggers: list[tuple[int, ...]] = []
        for fork in forks:
            before, after = protocol.split_at(fork.parent.trajectory.steps, fork.point)
            prompt = self._prompt.fill(fork.parent.trajectory.question)
            following = protocol.render(after)
            space = following[: len(following) - len(following.lstrip())]
            contexts.append(self._encode(prompt, before))
            triggers.append(
                self._encode("", (protocol.marker(space + protocol.open_tag(fork.tool)),))
            )
        doubts = []
        for found in self._scorer.log_probabilities(contexts, triggers):
            doubts.append(1 - abs(2 * exp(found) - 1))
        return doubts

    def _encode(self, prompt: str, steps: Sequence[Step]) -> tuple[int, ...]:
        """Encode as a rollout does that continues these steps."""
        ids: tuple[int, ...] = ()
        for piece in protocol.pieces(prompt, steps):
            is_prompt = piece.kind is None
            ids += self._scorer.encode(piece.text, is_prompt=is_prompt, author=piece.author) or ()
        return ids


def open_point_scores(
    params: Params, analysed: Path, parents: Collection[str]
) -> PointScores | None:
    """Open what scores the points of the chosen parents; None where they are not scored."""
    if params.section(BranchParams).points is not PointChoice.BLAME:
        return None
    blamed = read_blamed(analysed, parents)
    policy = forking_policy(params)
    if policy.policy is not PolicyKind.LOCAL:
        return PointScores(blamed, doubt_in_words)
    scorer = LocalPolicy.load(policy.local)
    return PointScores(blamed, TriggerDoubt(scorer, load_prompts(params)[Arm.ACT]))
