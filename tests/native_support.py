"""Roll out the microworld's teacher behind a server that answers ids in Qwen's own format."""

import asyncio
import os
import random
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from coa.policy import Completion, Finish, Policy, Request
from coa.policy.chat.families import ChatSettings
from coa.policy.native import NativePolicy, NativeTemplate
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import Author, Mode, Outcome, Sampling, Trajectory
from coa.rollout.drivers import follow
from coa.rollout.loop import Limits, RolloutContext, State
from coa.store.journal import Journal
from coa.tools import ToolReply
from tests.chat_support import MODEL, Script, roll, tasks
from tests.doubles.faults import Faults
from tests.doubles.model_server import serve
from tests.doubles.native_writer import NativeWriter

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
THINKING = ["<think>", "</think>"]
SENTENCES = ["I need the director of the film. Who was born in the city?\n\n", "{search: query}"]


def template_text(name: str) -> str:
    """Read a chat template as TRL ships it."""
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def make_tokenizer(template: str = "qwen3") -> Any:
    """Train a small byte-level tokenizer with Qwen's special tokens and one of its templates."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=QWEN,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 20, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    added = MARKS if template == "qwen2_5" else MARKS + THINKING
    tokenizer.add_tokens(added, special_tokens=False)
    tokenizer.chat_template = template_text(template)
    return tokenizer


@cache
def tokenizer_folder(template: str, parent: Path) -> Path:
    """Save a small tokenizer; `real` is Qwen2.5's own, from the folder of real data."""
    if template == "real":
        return Path(os.environ["COA_REAL_DATA"]) / "tokenizer_qwen2"
    folder = parent / template
    make_tokenizer(template).save_pretrained(folder)
    return folder


@cache
def load_template(folder: Path) -> NativeTemplate:
    return NativeTemplate(transformers.AutoTokenizer.from_pretrained(folder), str(folder))


def odd_ids(template: NativeTemplate, text: str) -> tuple[int, ...]:
    """Encode a text in pieces of random length, as a model may sample it; marks stay whole."""
    chance = random.Random(text)
    ids: list[int] = []
    for piece in re.split(r"(<[^<>]+>)", text):
        cut = len(piece) if piece.startswith("<") else chance.randint(0, len(piece))
        ids += template.encode(piece[:cut])
        ids += template.encode(piece[cut:])
    return tuple(ids)


class OddWriter:
    """A policy that samples given turns in Qwen's format, with other ids than a tokenizer chooses.

    A turn that does not end with the end-of-turn token was cut by the limit of tokens.
    """

    identity: Mapping[str, object] = {}

    def __init__(self, texts: Iterable[str], template: NativeTemplate) -> None:
        self._texts = iter(texts)
        self._template = template
        self.name = MODEL
        self.asked: list[tuple[int, ...]] = []
        """The prompts, as ids."""
        self.sampled: list[tuple[int, ...]] = []

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """Return None: it is asked by ids."""

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text."""
        return len(self._template.encode(text))

    async def complete(self, request: Request) -> Completion:
        """Give the next turn."""
        assert request.context_ids is not None
        text = next(self._texts)
        ids = odd_ids(self._template, text)
        self.asked.append(request.context_ids)
        self.sampled.append(ids)
        is_over = ids[-1] in self._template.end_ids
        return Completion(text, Finish.END if is_over else Finish.LENGTH, len(ids), ids=ids)


class Shows:
    """A tool that shows one text."""

    name = "search"
    fingerprint = "shows"

    def __init__(self, text: str) -> None:
        self._text = text

    async def call(self, argument: str) -> ToolReply:
        """Show it."""
        return ToolReply(Outcome.OK, self._text)


async def last_state(
    writer: Policy,
    folder: Path,
    *,
    mode: Mode = Mode.COA,
    limits: Limits | None = None,
    shown: str = "Villa Pellin is in Udine.",
    **chat: Any,
) -> State:
    """Roll out one question over a real socket and return the state at its end."""
    async with serve(writer) as base_url:
        settings = ServerSettings(base_url, MODEL, patience_minutes=1.0, tokenizer=str(folder))
        async with NativePolicy(settings, ChatSettings(**chat)) as policy:
            (task,) = tasks(mode, f"chat_{mode}", 1)
            run = RolloutContext(policy, Sampling(seed=3), limits or Limits())
            states = [it async for it in follow(task, run, policy, {"search": Shows(shown)})]
            return states[-1]


def native_rows(
    folder: Path,
    mode: Mode,
    num_questions: int,
    *,
    writer: Policy | None = None,
    limits: Limits | None = None,
    journal: Journal | None = None,
    faults: Faults | None = None,
    **chat: Any,
) -> list[Trajectory]:
    """Roll out over a real socket by ids."""

    async def through() -> list[Trajectory]:
        served = writer or NativeWriter(Script(), load_template(folder))
        async with serve(served, faults=faults) as base_url:
            settings = ServerSettings(base_url, MODEL, patience_minutes=1.0, tokenizer=str(folder))
            async with NativePolicy(settings, ChatSettings(**chat)) as policy:
                asked = tasks(mode, f"chat_{mode}", num_questions)
                return await roll(policy, asked, limits=limits, journal=journal)

    return asyncio.run(through())
