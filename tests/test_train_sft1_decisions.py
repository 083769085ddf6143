"""Find the decisions of pairs, encode them, and train on them with the command of the stage."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
    ),
]

from coa.errors import ConfigError, OutputError  # noqa: E402
from coa.policy.prompts import Prompt  # noqa: E402
from coa.records import protocol  # noqa: E402
from coa.records.pairs import PairKind, PreferencePair  # noqa: E402
from coa.records.trajectory import Author, Step, StepKind  # noqa: E402
from coa.student.settings import Sft1Params  # noqa: E402
from coa.student.small import StudentSettings, new_student  # noqa: E402
from tests.train_support import SET, pair, trajectory  # noqa: E402
from train.encode import IGNORED, Encoder  # noqa: E402
from train.run import main  # noqa: E402
from train.sft1 import (  # noqa: E402
    Decision,
    encode_pair,
    find_decision,
)

PROMPT = Prompt("Question: {question}\n<think>\n", "")
CALL = Step(StepKind.ACTION, Author.POLICY, "<begin_search> Ada </end_search>", "search", "Ada")
BLANK = Step(StepKind.THOUGHT, Author.POLICY, " ")
GOES_ON = protocol.parse_policy("She wrote it. It was Bob.\n</think>\n\n\\boxed{Bob}")


def acting(**changes: Any) -> PreferencePair:
    return replace(pair(0), chosen=(BLANK, CALL), rejected=GOES_ON, **changes)


def test_the_decisions_are_the_trigger_and_the_first_sentence_of_the_other_side() -> None:
    assert find_decision(acting()) == Decision(" <begin_search>", "She wrote it.")
    thinking = replace(
        acting(), kind=PairKind.THINK_IS_BETTER, chosen=GOES_ON, rejected=(BLANK, CALL)
    )
    assert find_decision(thinking) == Decision("She wrote it.", " <begin_search>")


def test_a_clause_without_an_end_goes_to_the_end_of_its_step() -> None:
    rejected = (Step(StepKind.THOUGHT, Author.POLICY, " so I need "), CALL)
    found = find_decision(replace(acting(), rejected=rejected))
    assert found is not None and found.rejected == " so I need "


def test_a_side_that_calls_another_tool_or_none_has_no_trigger() -> None:
    assert find_decision(acting(tool="calculate")) is None
    assert find_decision(replace(acting(), chosen=GOES_ON)) is None


@pytest.mark.parametrize("tool", ["search", "calculate"])
def test_a_trigger_of_the_students_is_two_tokens_for_any_of_its_tools(tool: str) -> None:
    settings = StudentSettings(tools=("search", "calculate"))
    tokenizer = new_student(["I need it. She wrote it. Bob"], settings, seed=0).tokenizer
    call = replace(CALL, text=f"<begin_{tool}> Ada </end_{tool}>", tool=tool)
    row = replace(acting(tool=tool), chosen=(BLANK, call))

    found = encode_pair(Encoder(tokenizer, PROMPT, 200), row)

    assert found is not None
    num_chosen, num_rejected = found["decision_lengths"]
    assert tokenizer.convert_ids_to_tokens(found["chosen_ids"][:num_chosen]) == [
        "Ġ",
        f"<begin_{tool}>",
    ]
    assert tokenizer.decode(found["rejected_ids"][:num_rejected]) == "She wrote it."


def test_a_trigger_may_be_any_number_of_tokens_of_a_real_tokenizer() -> None:
    if "COA_REAL_DATA" not in os.environ:
        pytest.skip("COA_REAL_DATA does not name the folder of real data")
    folder = Path(os.environ["COA_REAL_DATA"]) / "tokenizer_qwen2"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    row = replace(acting(), chosen=(CALL,))

    found = encode_pair(Encoder(tokenizer, PROMPT, 200), row)

    assert found is not None
    num_chosen, num_rejected = found["decision_lengths"]
    assert num_chosen > 1
    assert tokenizer.decode(found["chosen_ids"][:num_chosen]).startswith("<begin_search>")
    assert not tokenizer.decode(found["chosen_ids"][: num_chosen - 1]).startswith("<begin_search>")
    assert tokenizer.decode(found["rejected_ids"][:num_rejected]) == "She wrote it."


def test_the_likelihood_of_a_trajectory_trains_the_tokens_that_stage_2_trains() -> None:
    tokenizer = new_student(["I need it. Ada wrote it."], StudentSettings(), seed=0).tokenizer
    encoder = Encoder(tokenizer, PROMPT, 200)
    wanted = encoder.trajectory(trajectory(1), trains_world=False)
    found = encoder.likelihood(trajectory(1))
    assert wanted is not None and found is not None
    ids = [*found["prompt_ids"], *found["chosen_ids"]]
    mask = [0, *found["chosen_mask"]]
    assert ids == wanted["input_ids"]
    assert mask == [int(label != IGNORED) for label in wanted["labels"]]
    assert found["rejected_ids"] == []


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_number_without_a_meaning_is_refused_by_name(share: float) -> None:
    with pytest.raises(ConfigError, match=r"train\.sft1\.likelihood_share"):
        Sft1Params(likelihood_share=share)


@pytest.mark.slow
def test_a_model_after_stage_2_learns_decisions_and_a_resumed_run_ends_with_the_same_weights(
    pretrained_folder: Path,
) -> None:
    main(["stage=sft2", "train.sft2.init=data/train/pretrain"])
    decide = [
        "stage=sft1",
        "train.sft1.init=data/train/sft2",
        f"train.sft1.trajectories=[{SET}]",
        "train.sft1.arguments.max_steps=8",
    ]
    save_often(pretrained_folder)
    main([*decide, "name=straight"])
    stopped = [*decide, "name=decide"]
    blocked = pretrained_folder / "data/train/decide"
    blocked.write_text("in the way")
    with pytest.raises(OutputError):
        main(stopped)
    last = pretrained_folder / ".checkpoints/decide/checkpoint-8"
    assert last.is_dir()
    blocked.unlink()
    for file in last.iterdir():
        file.unlink()
    assert (pretrained_folder / ".checkpoints/decide/checkpoint-4/trainer_state.json").is_file()

    assert main(stopped).startswith("data/train/decide: 8 steps on ")

    one, other = weights("straight"), weights("decide")
    assert all(torch.allclose(one[name], other[name], rtol=0, atol=1e-6) for name in one)
    log = (pretrained_folder / "data/train/decide/log.jsonl").read_text().splitlines()
    first = json.loads(log[0])
    assert {"trigger/act_better", "likelihood_loss", "pair_accuracy"} <= set(first)


def save_often(folder: Path) -> None:
    params = json.loads((folder / "params.yaml").read_text())
    params["train"]["sft1"]["arguments"] |= {
        "per_device_train_batch_size": 4,
        "save_steps": 4,
        "save_total_limit": 2,
    }
    (folder / "params.yaml").write_text(json.dumps(params))


def weights(name: str) -> dict[str, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(f"data/train/{name}")
    return dict(model.state_dict())
