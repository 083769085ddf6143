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
from train.encode import Encoder, PairExample, to_dataset  # noqa: E402
from train.pair_trainer import (  # noqa: E402
    PairTrainer,
    collate,
    score_sides,
)

ALPHA = 0.2
PAIRS: list[PairExample] = [
    {
        "prompt_ids": [5, 6, 7],
        "chosen_ids": [8, 9, 10, 11],
        "chosen_mask": [1, 1, 0, 1],
        "rejected_ids": [12, 13],
        "rejected_mask": [1, 1],
    },
    {
        "prompt_ids": [5],
        "chosen_ids": [9],
        "chosen_mask": [1],
        "rejected_ids": [12, 13, 9, 9, 9, 20],
        "rejected_mask": [0, 1, 1, 0, 0, 1],
    },
    {
        "prompt_ids": [5, 6, 7, 30, 31, 32, 33],
        "chosen_ids": [9, 40],
        "chosen_mask": [1, 1],
        "rejected_ids": [9, 41],
        "rejected_mask": [1, 1],
    },
    {
        "prompt_ids": [50, 51],
        "chosen_ids": [8, 9, 10, 11, 12, 13, 14],
        "chosen_mask": [1] * 7,
        "rejected_ids": [60],
        "rejected_mask": [1],
    },
    {
        "prompt_ids": [50, 51, 52],
        "chosen_ids": [70, 71],
        "chosen_mask": [0, 1],
        "rejected_ids": [72, 73, 74],
        "rejected_mask": [1, 0, 1],
    },
]


def tiny_model() -> Any:
    settings = StudentSettings(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48, max_context_tokens=64
    )
    model = new_student(["a few words"], settings, seed=0).model
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def mean_log_probability(model: Any, prefix: list[int], side: list[int], mask: list[int]) -> Any:
    log_probabilities = model(torch.tensor([prefix + side])).logits[0].log_softmax(dim=-1)
    found = [
        log_probabilities[len(prefix) + i - 1, token] for i, token in enumerate(side) if mask[i]
    ]
    return sum(found) / len(found)


def hand_loss(model: Any) -> Any:
    losses = []
    for pair in PAIRS:
        chosen = mean_log_probability(
            model, pair["prompt_ids"], pair["chosen_ids"], pair["chosen_mask"]
        )
        rejected = mean_log_probability(
            model, pair["prompt_ids"], pair["rejected_ids"], pair["rejected_mask"]
        )
        losses.append(torch.log1p(torch.exp(rejected - chosen)) - ALPHA * chosen)
    return sum(losses) / len(losses)


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


def test_no_side_sees_the_other_or_another_pair() -> None:
    model = tiny_model()
    changed: PairExample = {**PAIRS[0], "rejected_ids": [99, 98, 97], "rejected_mask": [1, 1, 1]}
    with torch.no_grad():
        before = score_sides(model, collate(PAIRS, pad_id=0)).means
        after = score_sides(model, collate([changed, *PAIRS[1:]], pad_id=0)).means
    assert after[0, 0].item() == pytest.approx(before[0, 0].item(), abs=1e-6)
    assert torch.allclose(after[1:], before[1:], atol=1e-6)
    assert after[0, 1].item() != pytest.approx(before[0, 1].item(), abs=1e-3)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(5, 1), (1, 5), (2, 3), (3, 2), (4, 2)])
def test_loss_and_gradient_are_the_formulas_however_the_step_is_split(
    tmp_path: Path, batch_size: int, accumulation: int
) -> None:
    model, twin = tiny_model(), tiny_model()
    wanted = hand_loss(twin)
    wanted.backward()

    history = train_one_step(model, tmp_path, batch_size, accumulation)

    assert history[0]["loss"] == pytest.approx(wanted.item(), abs=1e-6)
    # One step of plain gradient descent with rate 1 leaves the gradient in the weights.
    for before, after in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.allclose(before.detach() - after.detach(), before.grad, atol=1e-6)


def train_one_step(
    model: Any, folder: Path, batch_size: int, accumulation: int
) -> list[dict[str, float]]:
    arguments = transformers.TrainingArguments(
        str(folder),
        **ONE_STEP,
        remove_unused_columns=False,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
    )
    trainer = PairTrainer(
        model=model,
        args=arguments,
        train_dataset=to_dataset(PAIRS, PairExample),
        settings=Sft1Params(alpha=ALPHA),
        eval_dataset=to_dataset(PAIRS, PairExample),
        data_collator=partial(collate, pad_id=0),
    )
    trainer.train()
    history: list[dict[str, float]] = trainer.state.log_history
    return history


def test_the_log_tells_both_log_probabilities_and_how_often_the_chosen_side_wins(
    tmp_path: Path,
) -> None:
    model = tiny_model()
    with torch.no_grad():
        chosen, rejected = score_sides(model, collate(PAIRS, pad_id=0)).means.unbind(dim=1)

    entry = train_one_step(model, tmp_path, 2, 3)[0]

    assert entry["logps/chosen"] == pytest.approx(chosen.mean().item(), abs=1e-6)
    assert entry["logps/rejected"] == pytest.approx(rejected.mean().item(), abs=1e-6)
    assert entry["pair_accuracy"] == pytest.approx((chosen > rejected).float().mean().item())


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
