"""Run every stage of the 7B profile dry.

The architecture is Qwen2's, the tokenizer the real one of Qwen2.5; there are no weights at all.
"""

import asyncio
import json
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from coa.policy import Completion, Finish, Request
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Mode, Sampling, Step, StepKind
from coa.rollout.loop import Limits
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import SearchTool
from coa.settings.params import write_profiles
from coa.settings.stages import Stage
from coa.store import tables
from coa.student.settings import TrainParams
from tests.rl_support import EncodingPolicy
from tests.sample_records import make_graded, make_pair, make_trajectory
from tests.train_support import STEPS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
REAL = os.environ.get("COA_REAL_DATA")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        not REAL, reason="needs the real tokenizer in the folder named by COA_REAL_DATA"
    ),
    pytest.mark.filterwarnings(
        "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
    ),
]

ROOT = Path(__file__).parent.parent
QWEN2_7B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
    "max_window_layers": 28,
    "rope_theta": 10000,
    "rms_norm_eps": 1e-06,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "attention_dropout": 0.0,
}
"""config.json of DeepSeek-R1-Distill-Qwen-7B."""
PREFILLED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
PREFILLED += "<|im_start|>assistant\n<think>\n"
CHATML = (
    "<|im_start|>system\n"
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
)
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
QUESTIONS = [
    Question(f"q{i}", f"Who wrote book {i}?", ("Ada",), "train", "bridge", 1) for i in range(6)
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder with tiny sets, an index, and a model that is a config and a tokenizer."""
    folder = tmp_path_factory.mktemp("project")
    for name, template in (("own", None), ("prefilled", PREFILLED)):
        tokenizer = transformers.AutoTokenizer.from_pretrained(Path(str(REAL)) / "tokenizer_qwen2")
        tokenizer.chat_template = template or tokenizer.chat_template
        tokenizer.save_pretrained(folder / "models" / name)
        (folder / "models" / name / "config.json").write_text(json.dumps(QWEN2_7B))
    for split in ("train", "validation"):
        at = folder / "data/assemble"
        tables.write_table(
            at / f"coa/{split}.parquet", GradedTrajectory, map(trajectory, QUESTIONS)
        )
        tables.write_table(
            at / f"cot/{split}.parquet", GradedTrajectory, map(trajectory, QUESTIONS)
        )
        tables.write_table(at / f"cot_a/{split}.parquet", PreferencePair, map(pair, QUESTIONS))
        tables.write_table(at / f"rl/{split}.parquet", Question, QUESTIONS)
    build_index(
        [Passage("p1", "Book", "The book by Ada.")],
        folder / "data/index",
        IndexSettings(),
        "corpus",
        None,
    )
    return folder


def trajectory(question: Question) -> GradedTrajectory:
    return make_graded(question, STEPS)


def pair(question: Question) -> PreferencePair:
    wrong = protocol.parse_policy("Maybe Bob.\n</think>\n\n\\boxed{Bob}")
    prefix = (Step(StepKind.THOUGHT, Author.POLICY, "I need it. "),)
    parent = make_trajectory(question, STEPS)
    sides = {"chosen_id": "c", "rejected_id": "r"}
    return make_pair(parent, STEPS[1:], wrong, point=11, prefix=prefix, **sides)


def write_params(folder: Path, model: str, *, use_vllm: bool = False, **train: Any) -> None:
    """params.yaml of the 7B profile, short enough for a CPU."""
    files = [ROOT / "conf/paper.yaml", ROOT / "conf/7b.yaml"]
    write_profiles(files, folder / "params.yaml", ROOT / "conf/microworld.yaml")
    params = OmegaConf.load(folder / "params.yaml")
    short = {
        "prompt": str(ROOT / "train/prompts/question.txt"),
        "max_context_tokens": 96,
        "dry_run": True,
    }
    params = OmegaConf.merge(params, {"train": {**short, "sft1": {"init": model}, **train}})
    for stage in ("rl1", "rl2"):
        params.train[stage].arguments.use_vllm = use_vllm
        params.train[stage].arguments.vllm_max_model_length = 512
        params.train[stage].max_observation_tokens = 8
    (folder / "params.yaml").write_text(OmegaConf.to_yaml(params))


@pytest.mark.parametrize(
    ("stage", "model", "lora"),
    [
        ("sft2", "own", LORA),
        pytest.param("sft1", "own", {}, marks=pytest.mark.long),
        pytest.param("sft2", "own", {}, marks=pytest.mark.long),
        pytest.param("sft3", "own", {}, marks=pytest.mark.long),
        pytest.param("rl2", "own", LORA, marks=pytest.mark.long),
        pytest.param("rl1", "own", {}, marks=pytest.mark.long),
        pytest.param("rl2", "own", {}, marks=pytest.mark.long),
        pytest.param("sft2", "prefilled", {}, marks=pytest.mark.long),
        pytest.param("rl2", "prefilled", {}, marks=pytest.mark.long),
        pytest.param("sft1", "own", LORA, marks=pytest.mark.long),
    ],
    ids=lambda item: item if isinstance(item, str) else "lora" if item else "all",
)
def test_a_dry_run_goes_from_the_sets_to_a_model_that_transformers_loads(
    stage: str, model: str, lora: dict[str, Any], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.run import main

    monkeypatch.chdir(project)
    write_params(project, f"models/{model}", lora=lora)

    summary = main([f"stage={stage}"])

    out = project / f"data/train/{stage}_dry_run"
    assert f"data/train/{stage}_dry_run" in summary
    saved = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert (saved.config.model_type, saved.config.vocab_size, saved.config.num_hidden_layers) == (
        "qwen2",
        152064,
        2,
    )
    assert not any("lora" in name for name, _ in saved.named_parameters())
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert len(tokenizer("<begin_search>", add_special_tokens=False)["input_ids"]) > 1
    assert not (project / ".checkpoints" / f"{stage}_dry_run").exists()
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert any(entry.get("train_loss") is not None for entry in log)
    if stage.startswith("rl"):
        assert any(
            "kl" in entry for entry in log
        )  # of the tiny model's own reference, not of the weights


@pytest.mark.gpu
@pytest.mark.skipif(
    not (torch.cuda.is_available() and find_spec("vllm")), reason="needs a GPU and vLLM"
)
def test_a_dry_run_of_rl2_samples_through_vllm_in_this_process(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.run import main

    monkeypatch.chdir(project)
    write_params(project, "models/own", use_vllm=True)
    assert main(["stage=rl2"]).startswith("data/train/rl2_dry_run: 1 steps")


class Writer(EncodingPolicy):
    """Searches once, then answers well, in ids of the real tokenizer."""

    name = "writer"

    def _complete(self, request: Request) -> Completion:
        has_read = "</search_result>" in request.context
        text = (
            "Ada.</think>\n\n\\boxed{Ada}" if has_read else "Who? <begin_search> book </end_search>"
        )
        ids = self.encode(text, author=Author.POLICY) + ((self._end_id,) if has_read else ())
        return Completion(text, Finish.END if has_read else Finish.STOP, len(ids), None, ids)


@pytest.mark.parametrize(
    ("model", "opening"),
    [
        (
            "own",
            f"{CHATML}<|im_start|>user\nQuestion: Who?<|im_end|>\n<|im_start|>assistant\n<think>\n",
        ),
        (
            "prefilled",
            "<|im_start|>user\nQuestion: Who?<|im_end|>\n<|im_start|>assistant\n<think>\n",
        ),
    ],
)
def test_a_good_answer_after_either_template_keeps_the_format(
    model: str, opening: str, project: Path
) -> None:
    from train.rewards import reward_functions
    from train.rl import Ask, Rollouts
    from train.stage import StageRun

    tokenizer = transformers.AutoTokenizer.from_pretrained(project / "models" / model)
    params = TrainParams(
        Stage.RL2, prompt=str(ROOT / "train/prompts/question.txt"), chat_template=""
    )
    run = StageRun(Stage.RL2, replace(params, max_context_tokens=512), "")
    assert run.prompt(tokenizer).fill("Who?") == opening
    tools = {
        "search": SearchTool(EmbeddedSearch.in_memory([Passage("p1", "Book", "The book by Ada.")]))
    }
    with asyncio.Runner() as loop:
        rollouts = Rollouts(
            run, tokenizer, [Ask(QUESTIONS[0], Mode.COA)], Limits(2, 512, 16), tools, loop
        )
        out = rollouts.roll_out(["q0/coa"] * 2, Writer(tokenizer), Sampling())

    assert [tokenizer.decode(ids).count("<think>") for ids in out["prompt_ids"]] == [1, 1]
    rewards = {reward.__name__: reward for reward in reward_functions({"format_penalty": 1.0})}
    given = {
        "graded": out["graded"],
        "logged": [out["logged"]] * 2,
        "log_metric": lambda name, value: None,
    }
    assert [rewards["exact_match"](**given), rewards["format_penalty"](**given)] == [
        [1.0, 1.0],
        [0.0, 0.0],
    ]
