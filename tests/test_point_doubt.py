"""A policy in this process tells its own doubt: where it calls the tool half of the time."""

from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from coa.policy.prompts import Prompt
from coa.records.trajectory import Author, Mode
from coa.rollout.forks import BranchParams
from coa.settings.params import Params
from curate.forks.choice import forks_of
from curate.forks.point_scores import PointScores, TriggerDoubt, doubt_in_words, open_point_scores
from tests.blame_support import BLAME, text_before, write
from tests.causes_support import end, row

PROMPT = Prompt("Search: {question}\n<think>\n", "hash")
RIGHT = row(*end("One is so. Two is so. Maybe three. So it is Riga.", "Riga"), mode=Mode.COT)


class ToldScorer:
    """A scorer whose tokens are characters and whose trigger is as probable as it was told.

    It stands behind the same protocol as a model's; tests/test_policy_local.py tests that one.
    """

    name = "told"

    def __init__(self, probabilities: dict[str, float]) -> None:
        self.identity: dict[str, object] = {}
        self._probabilities = probabilities
        self.asked: list[tuple[str, str]] = []

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        return tuple(ord(character) for character in text)

    def count_tokens(self, text: str) -> int:
        return len(text)

    def log_probabilities(
        self, contexts: Sequence[tuple[int, ...]], continuations: Sequence[tuple[int, ...]]
    ) -> list[float]:
        found = []
        for context, continuation in zip(contexts, continuations, strict=True):
            before = "".join(map(chr, context))
            self.asked.append((before, "".join(map(chr, continuation))))
            probability = 1e-9
            for ending, value in self._probabilities.items():
                if before.endswith(ending):
                    probability = value
            found.append(log(probability))
        return found


@pytest.mark.parametrize(("one", "two"), [(0.5, 0.95), (0.6, 0.2), (0.3, 0.02)])
def test_the_point_nearest_to_half_is_chosen_where_nothing_is_blamed(
    one: float, two: float
) -> None:
    scorer = ToldScorer({"One is so.": one, "Two is so.": two})
    (fork,) = forks_of(RIGHT, BLAME, scores=PointScores({}, TriggerDoubt(scorer, PROMPT)))
    assert text_before(RIGHT.trajectory.steps, fork.point) == "One is so."
    assert fork.score == pytest.approx(0.4 * (1 - abs(2 * one - 1)), abs=1e-3)


def test_the_policy_is_asked_for_the_trigger_after_the_prompt_that_offers_the_tool() -> None:
    scorer = ToldScorer({})
    params = replace(BLAME, points_per_trajectory=9)
    forks = forks_of(RIGHT, params, scores=PointScores({}, TriggerDoubt(scorer, PROMPT)))
    assert len(forks) == len(scorer.asked) == 4
    opening = PROMPT.fill(RIGHT.trajectory.question)
    assert sorted(scorer.asked)[0] == (f"{opening}One is so.", " <begin_search>")


def test_scores_are_opened_only_where_points_are_chosen_by_blame(tmp_path: Path) -> None:
    _, path = write(tmp_path, [RIGHT])
    parents = {RIGHT.trajectory.trajectory_id}
    profile = Params.load("branch", ["points=cue"])
    assert open_point_scores(profile, path, parents) is None
    by_blame = open_point_scores(Params.load("branch", ["points=blame"]), path, parents)
    assert by_blame is not None
    (fork,) = forks_of(RIGHT, BLAME, scores=by_blame)
    assert text_before(RIGHT.trajectory.steps, fork.point) == "Two is so."
    assert [fork] == forks_of(RIGHT, BLAME, scores=PointScores({}, doubt_in_words))
    assert forks_of(RIGHT, BranchParams(cue="Two"))[0].point == fork.point


@pytest.mark.usefixtures("one_thread")
def test_a_model_in_this_process_tells_its_own_doubt(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tests.local_policy_support import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.Qwen3Config(vocab_size=len(tokenizer), **sizes, **heads)
    transformers.Qwen3ForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    _, path = write(tmp_path, [RIGHT])
    changes = ("points=blame", "teacher.policy=local", f"teacher.local.model={tmp_path}/model")
    params = Params.load("branch", changes)
    scores = open_point_scores(params, path, {RIGHT.trajectory.trajectory_id})
    assert scores is not None
    (fork,) = forks_of(RIGHT, BLAME, scores=scores)
    # A model that has learned nothing does not call the tool: no words of doubt are read.
    assert 0 <= fork.score < 0.05
