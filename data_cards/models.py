"""Render the card of a trained model: its chain, its data, and the results of these very weights.

    python -m data_cards.models model=data/train/sft2

Writes data/models/{name}/README.md and the picture it shows. Same inputs give same bytes.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from coa.errors import ConfigError
from coa.model_files import fingerprint_files
from coa.output_folder import OwnFolder
from coa.params import Params
from coa.prompts import Prompt
from data_cards.cards import licences, trained
from data_cards.cards.card import fill, licence_table
from data_cards.cards.front_matter import assemble_card
from data_cards.cards.licences import Source
from data_cards.cards.measure import SCRIPTED, models_and_sources
from data_cards.cards.safe_markdown import Cell, Markdown, fence, inline, table, words
from data_cards.cards.trained import Result, TrainedStage
from data_cards.render import write_files
from data_cards.settings import RenderParams, check, public

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

OUT = Path("data/models")
OWN_FOLDER = OwnFolder("python -m data_cards.models", "README.md", r"README\.md|curves\.png")
_DOES = {
    "pretrain": "knows a part of a world's facts and has not learned to search",
    "sft1": "has learned when to search",
    "sft2": "has learned when and how to search",
    "sft3": "has learned to search and to predict what a search returns",
    "rl1": "has practised on searches that it imagined itself",
    "rl2": "has practised with a real search",
}
_OBJECTIVES = {
    "pretrain": "likelihood of text",
    "sft1": "contrastive loss on pairs: when to act",
    "sft2": "likelihood of trajectories, search results masked",
    "sft3": "the same with search results learned",
    "rl1": "GRPO, searches imagined by the model",
    "rl2": "GRPO with the real search",
}
_MASKS = {
    "sft1": "Learned: the policy's own text after the point where a pair's sides part.",
    "sft2": "Learned: the policy's own text. Masked: prompt, search results, inserted markers.",
    "sft3": (
        "Learned: the policy's own text and the bodies of search results."
        " Masked: prompt, inserted markers."
    ),
    "rl1": "Learned: the policy's own tokens. Masked: what stands for search results.",
    "rl2": "Learned: the policy's own tokens. Masked: search results.",
}
_SIZES = {"layers": "num_hidden_layers", "width": "hidden_size", "vocabulary": "vocab_size"}
_METRICS = {
    "exact_match": "exact match",
    "cover_exact_match": "cover exact match",
    "f1": "F1",
    "actions": "searches",
}
_MAX_FIGURES = 20
"""Figures of the validation that a card shows."""


@dataclass(frozen=True, slots=True)
class ModelsParams:
    """Which model gets a card."""

    model: str = ""
    """Its folder, such as data/train/sft2."""


class ModelCard(NamedTuple):
    """A card and what the gate asks about its model."""

    text: str
    sources: tuple[Source, ...]
    teachers: tuple[str, ...]
    """Who wrote the trajectories of its sets."""
    num_results: int
    other_results: tuple[str, ...]
    """Results of other weights that lay in the same folder."""


def model_card(folder: Path, params: Params, repository: str = "") -> ModelCard:
    """Measure a model's folder and write its card.

    Raises:
        InputError: the folder is no trained model, or a file is broken.
        ConfigError: a setting cannot stand in a card.
    """
    section = params.section(RenderParams, "render")
    check(section)
    runs = trained.chain(folder)
    own, others = trained.results(folder)
    models, sources = models_and_sources(trained.sets_of(runs))
    sources = list(dict.fromkeys([*sources, *trained.other_sources(runs)]))
    teachers = tuple(dict.fromkeys(model.value for model in models))
    scripted = [inline(name) for name in teachers if name.startswith(SCRIPTED)]
    title = f"{section.title}: {folder.name}"
    context = {
        **_context(runs, own, others),
        "title": title,
        "repository": repository or str(folder),
        "name": "model",
        "is_all_scripted": False,
        "scripted": ", ".join(scripted),
        "licences": licence_table(sources, section),
    }
    body = fill("model.md", context)
    data = _metadata(runs, own, section, sources, title)
    return ModelCard(
        text=assemble_card(data, body),
        sources=tuple(sources),
        teachers=teachers,
        num_results=len(own),
        other_results=tuple(others),
    )


def _context(
    runs: list[TrainedStage], own: Sequence[Result], others: Sequence[str]
) -> dict[str, Any]:
    run = runs[-1]
    base = trained.base_of(runs)
    return {
        "stage": run.stage,
        "does": _DOES.get(run.stage, "was trained"),
        "begins": f" and begins with {inline(base)}" if base else ", begun from nothing",
        "architecture": _architecture(run.folder),
        "prompt": _prompt(run.folder),
        "chain": _chain(runs),
        "figures": _figures(run),
        "has_curves": (run.folder / "curves.png").exists(),
        "data": _data(runs),
        "masks": Markdown(_MASKS.get(run.stage, "")),
        "results": _results(own),
        "fingerprint": fingerprint_files(run.folder),
        "other_results": ", ".join(inline(name) for name in others),
        "settings": fence(_shown_settings(run), "yaml"),
    }


def _architecture(folder: Path) -> Markdown:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architectures = config.get("architectures") or ["unknown"]
    rows: list[Sequence[Cell]] = [(Markdown("architecture"), inline(str(architectures[0])))]
    for what, name in _SIZES.items():
        rows.append((Markdown(what), int(config.get(name, 0))))
    num_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    rows.append((Markdown("bytes of weights"), num_bytes))
    return table(("", "value"), rows)


def _prompt(folder: Path) -> Markdown:
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["train"]
    prompt = Prompt.load(Path(settings["prompt"]), settings["chat_template"] or "{prompt}")
    return fence(prompt.fill("{question}").rstrip("\n"))


def _chain(runs: Sequence[TrainedStage]) -> Markdown:
    rows: list[list[Cell]] = []
    for run in runs:
        name = inline(run.folder.name)
        objective = Markdown(_OBJECTIVES.get(run.stage, run.stage))
        data = Markdown(", ".join(inline(item) for item in run.data))
        rate = Markdown(str(run.arguments.get("learning_rate", "")))
        rows.append([name, objective, data, run.steps, rate])
    return table(("run", "objective", "on", "steps", "learning rate"), rows)


def _figures(run: TrainedStage) -> Markdown | str:
    rows = []
    for name, value in sorted(run.figures.items()):
        if not name.endswith(("runtime", "per_second")):
            rows.append((words(name.removeprefix("eval_")), Markdown(f"{value:.4g}")))
    return table(("figure", "value"), rows[:_MAX_FIGURES]) if rows else ""


def _data(runs: list[TrainedStage]) -> Markdown:
    rows = []
    for path, sha256 in trained.data_files(runs).items():
        rows.append((inline(path), inline(sha256)))
    return table(("file", "SHA-256"), rows)


def _results(found: Sequence[Result]) -> Markdown | str:
    if not found:
        return ""
    rows: list[list[Cell]] = []
    for result in found:
        setting = result.setting
        shown = [Markdown(_interval(name, result.metrics.get(name))) for name in _METRICS]
        search = inline(setting["search"]) if setting.get("search") else Markdown("no search")
        asked = f"{words(str(setting['split']))}, {words(str(setting['mode']))}"
        rows.append([Markdown(asked), result.num_questions, *shown, search])
    return table(("asked", "questions", *_METRICS.values(), "search"), rows)


def _interval(name: str, value: Any) -> str:
    """Write a mean with its interval: searches as they are, everything else in per cent."""
    if not value:
        return ""
    if name == "actions":
        return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    percent = value["value"] * 100
    low = value["low"] * 100
    high = value["high"] * 100
    return f"{percent:.1f} [{low:.1f}, {high:.1f}]"


def _shown_settings(run: TrainedStage) -> str:
    values = public({**run.settings, "arguments": dict(run.arguments)})
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100).strip()


def _metadata(
    runs: list[TrainedStage],
    own: Sequence[Result],
    section: RenderParams,
    sources: Sequence[Source],
    title: str,
) -> "ModelCardData":
    from huggingface_hub import EvalResult, ModelCardData

    measured = []
    for result in own:
        for name in ("exact_match", "f1"):
            value = result.metrics.get(name)
            if value:
                measured.append(
                    EvalResult(
                        task_type="question-answering",
                        dataset_type="coa",
                        dataset_name=f"{result.setting['split']}, {result.setting['mode']}",
                        metric_type=name,
                        metric_value=round(value["value"], 4),
                        metric_name=_METRICS[name],
                    )
                )
    return ModelCardData(
        language=list(section.languages),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=sorted({"agent", "chain-of-action", "search", "arxiv:2503.06580"}),
        base_model=trained.base_of(runs) or None,
        datasets=[section.repository] if section.repository else None,
        model_name=title if measured else None,
        eval_results=measured or None,
        **licences.licence_fields(sources, section.licenses),
    )


def card_files(card: ModelCard, folder: Path) -> dict[str, bytes]:
    """Give the card and its picture by their path in a repository."""
    files = {"README.md": card.text.encode()}
    curves = folder / "curves.png"
    if curves.exists():
        files["curves.png"] = curves.read_bytes()
    return files


def card_folder(folder: Path) -> Path:
    """Give the folder of a model's card.

    Raises:
        ConfigError: the folder has no name of its own.
    """
    if folder.name in ("", ".."):
        raise ConfigError(
            "no model is named",
            where="models.model",
            expected="a folder such as data/train/sft2",
            got=str(folder),
        )
    return OUT / folder.name


def main(arguments: Sequence[str]) -> str:
    """Render one model's card and return the summary line."""
    params = Params.load("models", arguments)
    folder = Path(params.section(ModelsParams).model)
    out = card_folder(folder)
    card = model_card(folder, params)
    write_files(out, card_files(card, folder), OWN_FOLDER)
    return f"{out}: {len(trained.chain(folder))} stages, {card.num_results} results"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
