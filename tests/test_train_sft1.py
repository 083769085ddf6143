"""Check SFT stage 1 against its formula, written out by hand over single sequences."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]

from coa.policy.prompts import Prompt  # noqa: E402
from coa.records import protocol  # noqa: E402
from coa.records.pairs import PreferencePair  # noqa: E402
from coa.records.question import Question  # noqa: E402
from coa.records.trajectory import Author, Outcome, Step, StepKind  # noqa: E402
from coa.student.settings import Sft1Params  # noqa: E402
from coa.student.small import StudentSettings, new_student  # noqa: E402
from tests.sample_records import make_pair, make_trajectory  # noqa: E402
from tests.train_support import ONE_STEP  # noqa: E402
from train.encode import DecisionExample, Encoder, PairExample, to_dataset  # noqa: E402
from train.pair_trainer import (  # noqa: E402
    MixedOrder,
    PairTrainer,
    collate,
    score_sides,
)

PAIRS: list[DecisionExample] = [
    {
        "prompt_ids": [5, 6, 7],
        "chosen_ids": [8, 9, 10, 11],
        "chosen_mask": [1, 1, 0, 1],
        "rejected_ids": [12, 13, 40],
        "rejected_mask": [1, 1, 1],
        "decision_lengths": [2, 2],
        "acts": 1,
    },
    {
        "prompt_ids": [5],
        "chosen_ids": [9, 30],
        "chosen_mask": [1, 1],
        "rejected_ids": [12, 13, 9, 9, 9, 20],
        "rejected_mask": [1, 1, 1, 0, 0, 1],
        "decision_lengths": [1, 3],
        "acts": 1,
    },
    {
        "prompt_ids": [5, 6, 7, 30, 31, 32, 33],
        "chosen_ids": [9, 40, 8],
        "chosen_mask": [1, 1, 1],
        "rejected_ids": [9, 41],
        "rejected_mask": [1, 1],
        "decision_lengths": [3, 1],
        "acts": 0,
    },
    {
        "prompt_ids": [50, 51],
        "chosen_ids": [8, 9, 10, 11, 12, 13, 14],
        "chosen_mask": [0, 1, 1, 1, 1, 1, 1],
        "rejected_ids": [60],
        "rejected_mask": [1],
        "decision_lengths": [0, 0],
        "acts": 0,
    },
]
TRAJECTORIES: list[PairExample] = [
    {
        "prompt_ids": [4],
        "chosen_ids": [5, 6, 50, 51, 52],
        "chosen_mask": [0, 0, 1, 1, 0],
        "rejected_ids": [],
        "rejected_mask": [],
    },
    {
        "prompt_ids": [4],
        "chosen_ids": [60, 61, 62, 63],
        "chosen_mask": [1, 1, 1, 1],
        "rejected_ids": [],
        "rejected_mask": [],
    },
]


def tiny_model() -> Any:
    shape = StudentSettings(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48, max_context_tokens=64
    )
    model = new_student(["a few words"], shape, seed=0).model
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def log_probabilities(model: Any, pair: PairExample, side: str) -> Any:
    """The log-probabilities of the trained tokens of a side, from a sequence of its own."""
    prefix = pair["prompt_ids"]
    ids = pair["chosen_ids"] if side == "chosen" else pair["rejected_ids"]
    mask = pair["chosen_mask"] if side == "chosen" else pair["rejected_mask"]
    found = model(torch.tensor([prefix + ids])).logits[0].log_softmax(dim=-1)
    trained = []
    for i, token in enumerate(ids):
        if mask[i]:
            trained.append(found[len(prefix) + i - 1, token])
    return torch.stack(trained)


def hand_loss(model: Any, alpha: float) -> Any:
    losses = []
    for pair in PAIRS:
        chosen = log_probabilities(model, pair, "chosen").mean()
        rejected = log_probabilities(model, pair, "rejected").mean()
        losses.append(torch.log1p(torch.exp(rejected - chosen)) - alpha * chosen)
    return sum(losses) / len(losses)


def make_trainer(
    model: Any,
    folder: Path,
    settings: Sft1Params,
    *,
    with_trajectories: bool = False,
    **changes: Any,
) -> PairTrainer:
    arguments = {**ONE_STEP, "per_device_train_batch_size": 4, **changes}
    return PairTrainer(
        model=model,
        args=transformers.TrainingArguments(str(folder), remove_unused_columns=False, **arguments),
        train_dataset=to_dataset(PAIRS, DecisionExample),
        eval_dataset=to_dataset(PAIRS, DecisionExample),
        data_collator=partial(collate, pad_id=0),
        settings=settings,
        trajectories=to_dataset(TRAJECTORIES, PairExample) if with_trajectories else None,
    )


def test_no_side_sees_the_other_or_another_pair() -> None:
    model = tiny_model()
    changed: DecisionExample = {**PAIRS[0], "rejected_ids": [99, 98, 97]}
    with torch.no_grad():
        before = score_sides(model, collate(PAIRS, pad_id=0)).means
        after = score_sides(model, collate([changed, *PAIRS[1:]], pad_id=0)).means
    assert after[0, 0].item() == pytest.approx(before[0, 0].item(), abs=1e-6)
    assert torch.allclose(after[1:], before[1:], atol=1e-6)
    assert after[0, 1].item() != pytest.approx(before[0, 1].item(), abs=1e-3)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (1, 4), (2, 2), (3, 2)])
def test_loss_and_gradient_are_the_formulas_however_the_step_is_split(
    tmp_path: Path, batch_size: int, accumulation: int
) -> None:
    model, twin = tiny_model(), tiny_model()
    trainer = make_trainer(
        model,
        tmp_path,
        Sft1Params(alpha=0.2),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    wanted = hand_loss(twin, 0.2)
    wanted.backward()

    trainer.train()

    assert trainer.state.log_history[0]["loss"] == pytest.approx(wanted.item(), abs=1e-5)
    for before, after in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.allclose(before.detach() - after.detach(), before.grad, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_the_likelihood_of_trajectories_is_added_by_its_share_and_weight(
    tmp_path: Path, alpha: float
) -> None:
    settings = Sft1Params(alpha=alpha)
    with_likelihood = Sft1Params(
        alpha=alpha,
        trajectories=("a folder",),
        likelihood_share=1 / 3,
        likelihood_weight=0.5,
    )
    alone = make_trainer(tiny_model(), tmp_path, settings)
    alone.train()
    model, twin = tiny_model(), tiny_model()
    sums = [log_probabilities(twin, row, "chosen") for row in TRAJECTORIES]
    likelihood_loss = -torch.cat(sums).mean().item()

    mixed = make_trainer(
        model,
        tmp_path,
        with_likelihood,
        with_trajectories=True,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
    )
    mixed.train()

    pairs_loss = alone.state.log_history[0]["loss"]
    wanted = pairs_loss + 0.5 * likelihood_loss
    assert mixed.state.log_history[0]["loss"] == pytest.approx(wanted, abs=1e-5)
    rows = [-log_probs.mean().item() for log_probs in sums]
    logged = mixed.state.log_history[0]["likelihood_loss"]
    assert logged == pytest.approx(sum(rows) / len(rows), abs=1e-5)


def test_the_log_has_both_log_probabilities_and_how_likely_a_call_is_where_it_helps(
    tmp_path: Path,
) -> None:
    model, twin = tiny_model(), tiny_model()
    triggers: tuple[list[float], list[float]] = ([], [])
    for pair in PAIRS[:3]:  # The last one has no decision.
        side = "chosen" if pair["acts"] else "rejected"
        length = pair["decision_lengths"][0 if pair["acts"] else 1]
        p = log_probabilities(twin, pair, side)[:length].sum().exp().item()
        triggers[pair["acts"]].append(p)
    with torch.no_grad():
        chosen, rejected = score_sides(twin, collate(PAIRS, pad_id=0)).means.unbind(dim=1)
    trainer = make_trainer(model, tmp_path, Sft1Params())

    trainer.train()

    entry = trainer.state.log_history[0]
    assert entry["logps/chosen"] == pytest.approx(chosen.mean().item(), abs=1e-6)
    assert entry["logps/rejected"] == pytest.approx(rejected.mean().item(), abs=1e-6)
    assert entry["pair_accuracy"] == pytest.approx((chosen > rejected).float().mean().item())
    assert entry["trigger/think_better"] == pytest.approx(triggers[0][0], abs=1e-6)
    assert entry["trigger/act_better"] == pytest.approx(sum(triggers[1]) / 2, abs=1e-6)


def test_every_stretch_of_rows_has_its_share_of_trajectories_and_every_pair_is_seen_once() -> None:
    order = MixedOrder(num_pairs=30, num_trajectories=7, share=0.25, seed=3)
    rows = list(order)
    assert len(rows) == len(order) == 40
    assert sorted(row for row in rows if row < 30) == list(range(30))
    for start in range(0, 40, 8):
        assert sum(row >= 30 for row in rows[start : start + 8]) == 2
    drawn = [row for row in rows if row >= 30]
    assert len(set(drawn)) == 7
    assert rows == list(order)
    order.set_epoch(1)
    assert rows != list(order)


def test_a_side_that_ends_in_an_action_has_no_end_of_turn_and_observations_are_not_trained() -> (
    None
):
    call = Step(StepKind.ACTION, Author.POLICY, "<begin_search> Ada </end_search>", "search", "Ada")
    seen = protocol.observation("search", "Ada wrote it.", Outcome.OK)
    answer = Step(StepKind.ANSWER, Author.POLICY, "\n</think>\n\n\\boxed{Ada}")
    row = pair(chosen=(call,), rejected=(call, seen, answer))
    student = new_student(["Ada wrote it."], StudentSettings(), seed=0)
    encoder = Encoder(
        student.tokenizer, Prompt("Question: {question}\n<think>\n", ""), max_tokens=200
    )

    example = encoder.pair(row)

    assert example is not None
    end = student.tokenizer.eos_token_id
    assert end not in example["chosen_ids"]
    assert example["rejected_ids"][-1] == end and example["rejected_mask"][-1] == 1
    assert student.tokenizer.decode(example["prompt_ids"]) == "Question: who?\n<think>\nI need it. "
    trained = [
        token
        for token, flag in zip(example["rejected_ids"], example["rejected_mask"], strict=True)
        if flag
    ]
    assert student.tokenizer.decode(trained[:-1]) == call.text + answer.text


def pair(chosen: tuple[Step, ...], rejected: tuple[Step, ...]) -> PreferencePair:
    prefix = (Step(StepKind.THOUGHT, Author.POLICY, "I need it. "),)
    asked = Question("q", "who?", ("Ada",), "train")
    parent = make_trajectory(asked, (*prefix, *chosen), prompt="the teacher's prompt")
    return make_pair(parent, chosen, rejected, point=11, prefix=prefix)


def mean_log_probability(model: Any, prefix: list[int], side: list[int], mask: list[int]) -> Any:
    log_probabilities = model(torch.tensor([prefix + side])).logits[0].log_softmax(dim=-1)
    found = [
        log_probabilities[len(prefix) + i - 1, token] for i, token in enumerate(side) if mask[i]
    ]
    return sum(found) / len(found)


def test_the_means_of_both_sides_equal_those_of_single_sequences() -> None:
    model = tiny_model().double()
    with torch.no_grad():
        found = score_sides(model, collate(PAIRS, pad_id=0)).means
    for pair, (chosen, rejected) in zip(PAIRS, found.tolist(), strict=True):
        hand_chosen = mean_log_probability(
            model, pair["prompt_ids"], pair["chosen_ids"], pair["chosen_mask"]
        )
        hand_rejected = mean_log_probability(
            model, pair["prompt_ids"], pair["rejected_ids"], pair["rejected_mask"]
        )
        assert chosen == pytest.approx(hand_chosen.item(), abs=1e-6)
        assert rejected == pytest.approx(hand_rejected.item(), abs=1e-6)
