"""Test labels of SFT stages 2 and 3, and loss and gradient under packing against a hand count."""

import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import polars as pl
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
from coa.records.graded import GradedTrajectory  # noqa: E402
from coa.records.question import Question  # noqa: E402
from coa.records.trajectory import Outcome, Step  # noqa: E402
from coa.student.small import StudentSettings, new_student  # noqa: E402
from tests.sample_records import make_graded  # noqa: E402
from tests.train_support import ONE_STEP  # noqa: E402
from train.encode import IGNORED, Encoder, Example, to_dataset  # noqa: E402

PROMPT = Prompt("Question: {question}\n<think>\n", "")
CALL = "I need it. <begin_search> Ada's book </end_search>"
SEEN = protocol.observation("search", "Ada wrote it.", Outcome.OK)
DECOMPOSED = "e\u0301"
REST = "It says Ada.\n</think>\n\n\\boxed{Ada}"
STEPS = (*protocol.parse_policy(CALL), SEEN, *protocol.parse_policy(REST))


def row(steps: tuple[Step, ...], question: str = "who?") -> GradedTrajectory:
    asked = Question("q", question, ("Ada",), "train", "bridge", 1)
    return make_graded(asked, steps, prompt="the teacher's prompt")


def trained_text(tokenizer: Any, example: Example) -> str:
    ids = [label for label in example["labels"] if label != IGNORED]
    text: str = tokenizer.decode(ids, skip_special_tokens=False)
    return text


def test_stage_2_trains_the_policys_text_and_the_end_of_turn_under_the_students_prompt() -> None:
    tokenizer = new_student([CALL, REST], StudentSettings(), seed=0).tokenizer
    example = Encoder(tokenizer, PROMPT, 200).trajectory(row(STEPS), trains_world=False)
    assert example is not None
    assert trained_text(tokenizer, example) == CALL + REST + tokenizer.eos_token
    whole = "Question: who?\n<think>\n" + protocol.render(STEPS) + tokenizer.eos_token
    assert tokenizer.decode(example["input_ids"], skip_special_tokens=False) == whole


def test_stage_3_adds_the_observations_body_with_its_closing_tag() -> None:
    tokenizer = new_student([CALL, REST], StudentSettings(), seed=0).tokenizer
    example = Encoder(tokenizer, PROMPT, 200).trajectory(row(STEPS), trains_world=True)
    assert example is not None
    assert (
        trained_text(tokenizer, example)
        == f"{CALL} Ada wrote it. </search_result>{REST}{tokenizer.eos_token}"
    )


def test_a_row_too_long_for_the_context_is_left_out_whole_and_counted() -> None:
    tokenizer = new_student([CALL, REST], StudentSettings(), seed=0).tokenizer
    encoder = Encoder(tokenizer, PROMPT, 60)
    assert encoder.trajectory(row(STEPS), trains_world=False) is not None
    assert encoder.trajectory(row(STEPS, "who " * 30 + "?"), trains_world=False) is None
    assert encoder.rows.counts == {"kept": 1, "too_long": 1}


@pytest.fixture(scope="module")
def qwen() -> Any:
    """The real tokenizer of Qwen2.5, which folds to NFC."""
    if "COA_REAL_DATA" not in os.environ:
        pytest.skip("COA_REAL_DATA does not name the folder of real data")
    folder = Path(os.environ["COA_REAL_DATA"]) / "tokenizer_qwen2"
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_observations_and_questions_of_decomposed_text_are_held_by_a_tokenizer_that_composes(
    qwen: Any,
) -> None:
    passages = pl.read_parquet(Path(os.environ["COA_REAL_DATA"]) / "corpus_gold.parquet")
    shown = [
        f"result 1: {title}: {text}" for title, text in passages.select("title", "text").iter_rows()
    ]
    decomposed = [text for text in shown if unicodedata.normalize("NFC", text) != text]
    assert len(decomposed) == 31
    encoder = Encoder(qwen, PROMPT, 100_000)
    for text in decomposed:
        seen = protocol.observation("search", text, Outcome.OK)
        steps = (*protocol.parse_policy(CALL), seen, *protocol.parse_policy(REST))
        assert encoder.trajectory(row(steps, f"who? {text[:200]}"), trains_world=True) is not None
    assert encoder.rows.counts == {"kept": 31}


def test_a_row_whose_policy_wrote_what_the_tokenizer_loses_is_left_out_by_name(qwen: Any) -> None:
    encoder = Encoder(qwen, PROMPT, 100_000)
    written = (*STEPS[:-2], *protocol.parse_policy(f"It says Ren{DECOMPOSED}e.\n{REST}"))
    assert encoder.trajectory(row(written), trains_world=False) is None
    assert encoder.trajectory(row(STEPS), trains_world=False) is not None
    assert encoder.rows.counts == {"kept": 1, "text_lost": 1}
    assert list(encoder.rows.lost) == ["q/coa/0"]
    assert "character" in encoder.rows.lost["q/coa/0"].details["where"]


EXAMPLES = [
    Example(input_ids=[5, 6, 7, 8, 9], labels=[IGNORED, IGNORED, 7, 8, 9]),
    Example(input_ids=[10, 11, 12], labels=[10, IGNORED, 12]),
    Example(
        input_ids=[20, 21, 22, 23, 24, 25, 26], labels=[IGNORED, 21, IGNORED, IGNORED, 24, 25, 26]
    ),
    Example(input_ids=[30, 31], labels=[30, 31]),
    Example(input_ids=[40, 41, 42, 43], labels=[IGNORED, IGNORED, IGNORED, 43]),
]


def hand_loss(model: Any) -> Any:
    """Average over the trained tokens of all sequences; nothing predicts a sequence's first one."""
    losses = []
    for example in EXAMPLES:
        found = model(torch.tensor([example["input_ids"]])).logits[0].log_softmax(dim=-1)
        pairs = enumerate(example["labels"])
        losses += [-found[i - 1, label] for i, label in pairs if i and label != IGNORED]
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (1, 4)])
def test_loss_and_gradient_under_packing_are_those_of_single_sequences(
    tmp_path: Path, batch_size: int, accumulation: int
) -> None:
    from trl import SFTConfig

    from train.likelihood_trainer import LikelihoodTrainer

    settings = StudentSettings(
        hidden_size=32, num_layers=2, num_heads=2, intermediate_size=48, max_context_tokens=64
    )
    student, twin = (new_student(["a few words"], settings, seed=0) for _ in range(2))
    wanted = hand_loss(twin.model)
    wanted.backward()
    arguments = SFTConfig(
        str(tmp_path),
        bf16=False,
        **ONE_STEP,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        packing=True,
        max_length=8,
        activation_checkpointing=False,
    )
    trainer = LikelihoodTrainer(
        model=student.model,
        args=arguments,
        train_dataset=to_dataset(EXAMPLES, Example),
        processing_class=student.tokenizer,
    )

    trainer.train()

    assert trainer.state.log_history[0]["loss"] == pytest.approx(wanted.item(), abs=1e-6)
    for before, after in zip(twin.model.parameters(), student.model.parameters(), strict=True):
        assert torch.allclose(before.detach() - after.detach(), before.grad, atol=1e-6)


REAL_TAGS = {
    "<|begin_of_query|>": "<begin_search>",
    "<|end_of_query|>": "</end_search>",
    "<|begin_of_documents|>": "<search_result>",
    "<|end_of_documents|>": "</search_result>",
}
# The oracle: an observation is what stands between its tags right after a call, found in the text
# alone.
OBSERVATION = re.compile(r"(?<=</end_search>)\s*<search_result>.*?</search_result>\n?", re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama", "qwen"])
def test_the_labels_of_real_trajectories_are_what_an_oracle_leaves_of_their_text(
    model: str,
) -> None:
    if "COA_REAL_DATA" not in os.environ:
        pytest.skip("COA_REAL_DATA is not set")
    folder = Path(os.environ["COA_REAL_DATA"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer_qwen2")
    encoder = Encoder(tokenizer, PROMPT, 100_000)
    path = folder / f"trajectories/trajectories_r1searcher_hotpotqa_{model}.jsonl"
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            written = json.loads(line)["gen_text_store"]
            for theirs, ours in REAL_TAGS.items():
                written = written.replace(theirs, ours)
            steps = protocol.parse(written)
            example = encoder.trajectory(row(steps), trains_world=False)
            assert example is not None
            end = tokenizer.eos_token if protocol.answer_text(steps) else ""
            assert trained_text(tokenizer, example) == OBSERVATION.sub("", written) + end
    assert encoder.rows.counts == {"kept": 500}
