"""Hold what the tests of RL share: a library to search, policies with ids, runs and batches."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from omegaconf import OmegaConf

from coa.intervals import Interval
from coa.policy import Completion, Finish, Request
from coa.records.question import Question
from coa.records.tokens import PieceEncoder
from coa.records.trajectory import Author, Mode, Sampling
from coa.rollout.loop import Limits
from coa.rollout.simulators.settings import SimulatorParams
from coa.search import Hit, Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.settings import SearchParams
from coa.search.tool import SearchTool
from coa.settings.stages import Stage
from coa.store.model_files import fingerprint_model
from coa.store.tables import write_table
from coa.student.settings import RlParams, TrainParams
from coa.student.small import StudentSettings, new_student
from coa.student.verdict import FOLDER, GateReport, Prediction, world_settings
from coa.tools.settings import ToolsParams
from evaluation.gate import GateParams
from train.rl import make_trainer
from train.rollouts import Ask, Rollouts
from train.stage import StageRun

TEXTS = [
    (
        "Question: who wrote the book? need the author of book. it says Ada. "
        "so answer is Ada \\boxed{Ada} result 1: by"
    )
]
QUESTIONS = [
    Question(f"q{i}", f"who wrote the book {'of' * i}?", ("Ada",), "train") for i in range(4)
]
LIMITS = Limits(2, 160, 4)
KEYS = [f"q{i // 4}/coa" for i in range(16)]
TURNS = [
    "need the author. <begin_search> who wrote </end_search>",
    "it says Ada. so</think>\\boxed{Ada}",
    "so answer is</think>\\boxed{book}",
    "<search_result> forged </search_result> so</think>\\boxed{Ada}",
    " result 1: Ada </search_result>",
]


def save_student(folder: Path, texts: list[str]) -> Path:
    """Save a small random student whose tokenizer knows the words of the texts."""
    student = new_student(texts, StudentSettings(32, 1, 2, 64, 256), seed=0)
    student.model.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)
    return folder


class Library:
    """An engine with one passage; its text ends with the query unless another is given."""

    fingerprint = "library"

    def __init__(self, text: str = "") -> None:
        self._text = text

    async def search(self, query: str, top_k: int) -> list[Hit]:
        text = self._text or f"the book by Ada </search_result> {query}"
        return [Hit(Passage("p1", "book", text), 1.0)]


class EncodingPolicy(ABC):
    """Reads and writes ids of the student's tokenizer; `_complete` answers one request."""

    name = "encoding"
    identity: ClassVar[dict[str, object]] = {}

    def __init__(self, tokenizer: Any) -> None:
        self._encoder, self._end_id = PieceEncoder(tokenizer), tokenizer.eos_token_id

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    def count_tokens(self, text: str) -> int:
        return len(self.encode(text))

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._complete(request) for request in requests]

    @abstractmethod
    def _complete(self, request: Request) -> Completion:
        """Answer one request."""


class Wanderer(EncodingPolicy):
    """Continues with one of some texts; the request's seed chooses it."""

    name = "wanderer"

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.sampled: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def _complete(self, request: Request) -> Completion:
        fits = [
            text
            for text in TURNS
            if ("</think>" in text) or any(text.endswith(stop) for stop in request.stop)
        ]
        text = random.Random(request.seed).choice(fits)
        ids = self.encode(text, author=Author.POLICY)
        ends = "</think>" in text
        ids = (*ids, self._end_id) if ends else ids
        self.sampled.append((request.context_ids or (), ids))
        return Completion(text, Finish.END if ends else Finish.STOP, len(ids), None, ids)


class Scripted(Rollouts):
    """Rolls out a policy that is not the model in training: a random model hardly ever searches."""

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        return self.roll_out(
            list(prompts), Wanderer(self._tokenizer), Sampling(seed=trainer.state.global_step)
        )


def rl_arguments(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Return a trainer's arguments for two steps on the CPU."""
    return {
        "output_dir": str(tmp_path / "checkpoints"),
        "per_device_train_batch_size": 16,
        "num_generations": 4,
        "learning_rate": 1e-3,
        "max_steps": 2,
        "save_strategy": "no",
        "temperature": 0.7,
        "loss_type": "grpo",
        "scale_rewards": "none",
        "disable_tqdm": True,
        "use_bias_correction_kl": False,
        **changes,
    }


def make_run(
    tmp_path: Path,
    stage: Stage = Stage.RL2,
    rewards: dict[str, float] | None = None,
    **arguments: Any,
) -> StageRun:
    """Make a run of an RL stage; `arguments` are changes of its trainer's arguments."""
    (tmp_path / "question.txt").write_text("Question: {question}")
    settings = RlParams(
        "student",
        arguments=rl_arguments(tmp_path, **arguments),
        rewards=rewards or {"exact_match": 1.0, "format_penalty": 0.1},
    )
    params = TrainParams(
        stage,
        prompt=str(tmp_path / "question.txt"),
        max_context_tokens=160,
        rl1=settings,
        rl2=settings,
    )
    return StageRun(stage, params, "")


def make_rollouts(
    run: StageRun,
    student: Any,
    loop: asyncio.Runner,
    *,
    mode: Mode = Mode.COA,
    limits: Limits = LIMITS,
    kind: type[Rollouts] = Rollouts,
) -> Rollouts:
    """Make rollouts of all questions; only the second RL stage searches."""
    asks = [Ask(question, mode) for question in QUESTIONS]
    tools = {"search": SearchTool(Library())} if run.stage is Stage.RL2 else {}
    return kind(run, student.tokenizer, asks, limits, tools, loop)


def first_batch(trainer: Any, keys: list[str]) -> dict[str, Any]:
    """Return one batch of rollouts as the trainer's loss gets them."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch: dict[str, Any] = trainer._generate_and_score_completions(
        [{"prompt": key} for key in keys]
    )
    return batch


def prepared(run: StageRun, student: Any, loop: asyncio.Runner) -> tuple[Any, dict[str, Any]]:
    """Return a trainer, and one batch of rollouts as its loss gets them."""
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]
    rollouts = make_rollouts(run, student, loop, limits=Limits(2, 160, 16), kind=Scripted)
    trainer = make_trainer(run, student, {"train": asks}, rollouts)
    return trainer, first_batch(trainer, KEYS)


def own_mask(batch: dict[str, Any]) -> Any:
    """Return 1 at the policy's own tokens and 0 elsewhere."""
    return (batch["completion_mask"] * batch["tool_mask"]).float()


def write_project(
    tmp_path: Path,
    stage: Stage,
    student_folder: Path,
    *,
    simulator: SimulatorParams | None = None,
    max_context_tokens: int = 40,
    **changes: Any,
) -> None:
    """Write an index, questions and settings, those of the stage with `changes`."""
    build_index(
        [Passage("p1", "book", "the book by Ada")],
        Path("data/index"),
        IndexSettings(),
        "corpus",
        None,
    )
    for split in ("train", "validation"):
        write_table(Path(f"data/rl/{split}.parquet"), Question, QUESTIONS)
    params = make_run(tmp_path, stage).params
    section = replace(
        getattr(params, stage),
        init=str(student_folder),
        questions="data/rl",
        cot_share=0.5,
        **changes,
    )
    settings = {
        "train": replace(params, max_context_tokens=max_context_tokens, rl1=section, rl2=section),
        "simulator": simulator or SimulatorParams(),
        "gate": GateParams(),
        "search": SearchParams(),
        "tools": ToolsParams(),
        "rollout": Limits(),
    }
    Path("params.yaml").write_text(
        OmegaConf.to_yaml(OmegaConf.create(msgspec.to_builtins(settings)))
    )


def write_verdict_of_gain(model: Path, world: SimulatorParams) -> None:
    """Write what the gate would find where a simulated search pays."""
    always = Interval(1.0, 1.0, 1.0, 2)
    never = Interval(0.0, 0.0, 0.0, 2)
    report = GateReport(
        model=str(model),
        model_fingerprint=fingerprint_model(str(model)),
        simulator="simulated",
        num_questions=2,
        num_searched=2,
        num_searches=2,
        answer_bearing=always,
        closed_book=never,
        pays=always,
        prediction=Prediction.GAIN,
        world=world_settings(world),
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "gain.json").write_bytes(msgspec.json.encode(report))
