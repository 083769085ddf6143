"""Measure a trained model: read its folder and give one record of everything that its card says.

Nothing here knows Markdown. `data_cards.cards.model_card` renders the record.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coa.errors import InputError
from coa.policy.prompts import Prompt
from coa.store.model_files import fingerprint_files
from data_cards.cards import trained
from data_cards.cards.licences import Source
from data_cards.cards.sources import models_and_sources
from data_cards.cards.trained import Result, TrainedStage
from data_cards.settings import public

_SIZES = {"layers": "num_hidden_layers", "width": "hidden_size", "vocabulary": "vocab_size"}
"""What a card says of a model's size, and how its config.json calls it."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Everything that the card of a trained model says of it."""

    folder: Path
    chain: tuple[TrainedStage, ...]
    """The stages behind it, its own the last."""
    base: str
    """The model of another maker that the chain starts from; empty where there is none."""
    sources: tuple[Source, ...]
    """Where the parts of what it learned from come from."""
    teachers: tuple[str, ...]
    """Who wrote the trajectories of its sets."""
    data_files: Mapping[str, str]
    """SHA-256 of every file that the chain was trained on."""
    architecture: str
    sizes: Mapping[str, int]
    """Its layers, width and vocabulary."""
    num_weight_bytes: int
    prompt: str
    """What it was trained to answer, with `{question}` in the question's place."""
    fingerprint: str
    """Of its weights."""
    results: tuple[Result, ...]
    """Evaluations of these very weights."""
    other_results: tuple[str, ...]
    """Results of other weights that lay in the same folder."""
    settings: Mapping[str, Any]
    """Of the last stage, without what is private."""
    has_curves: bool
    """Whether there is a picture of the training."""
    gate: Mapping[str, Any]
    """What the gate before rl1 found, and what was accepted by name; empty for other stages."""
    searches: Mapping[str, Any]
    """What the searches of an RL run came to; empty for other stages."""


def measure_model(folder: Path) -> ModelFacts:
    """Measure a model's folder.

    Raises:
        InputError: the folder is not a trained model, or a file is broken.
    """
    runs = trained.chain(folder)
    own_results, other_results = trained.results(folder)
    models, set_sources = models_and_sources(trained.sets_of(runs))
    sources = dict.fromkeys([*set_sources, *trained.other_sources(runs)])
    run = runs[-1]
    config = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    architectures = config.get("architectures") or ["unknown"]
    sizes: dict[str, int] = {}
    for what, name in _SIZES.items():
        sizes[what] = int(config.get(name, 0))
    return ModelFacts(
        folder=folder,
        chain=tuple(runs),
        base=trained.base_of(runs),
        sources=tuple(sources),
        teachers=tuple(models),
        data_files=trained.data_files(runs),
        architecture=str(architectures[0]),
        sizes=sizes,
        num_weight_bytes=sum(path.stat().st_size for path in run.folder.glob("*.safetensors")),
        prompt=_read_prompt(run.folder),
        fingerprint=fingerprint_files(run.folder),
        results=tuple(own_results),
        other_results=tuple(other_results),
        settings=public({**run.settings, "arguments": dict(run.arguments)}),
        has_curves=(run.folder / "curves.png").exists(),
        gate=_read_beside(run.folder / "gate.json"),
        searches=_read_beside(run.folder / "searches.json"),
    )


def _read_beside(path: Path) -> dict[str, Any]:
    """Read what a run left beside its model; empty where it left nothing.

    Raises:
        InputError: the file is broken.
    """
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"cannot read {path}", got=error, fix="train it again") from error
    return found


def _read_prompt(folder: Path) -> str:
    """Read the prompt of a run inside its chat template."""
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["train"]
    prompt = Prompt.load(Path(settings["prompt"]), settings["chat_template"] or "{prompt}")
    return prompt.fill("{question}").rstrip("\n")
