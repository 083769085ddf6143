"""Write the card of a trained model: its chain, its data, and the results of these very weights.

`data_cards.cards.trained` reads the folder; templates/model.md has the text around the tables.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from coa.errors import ConfigError
from coa.policy.prompts import Prompt
from coa.policy.scripted import is_scripted
from coa.store.model_files import fingerprint_files
from data_cards.cards import trained
from data_cards.cards.card import fill
from data_cards.cards.front_matter import assemble_card
from data_cards.cards.licences import Source, licence_fields, licence_table
from data_cards.cards.safe_markdown import Cell, Markdown, fence, inline, table, words
from data_cards.cards.sources import models_and_sources
from data_cards.cards.trained import Result, TrainedStage
from data_cards.settings import RenderParams, public, settings_block

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

MODEL_CARDS = Path("data/models")
_OBJECTIVES = {
    "pretrain": "likelihood of text",
    "sft1": "a loss on pairs: when to act",
    "sft2": "likelihood of trajectories, search results masked",
    "sft3": "the same with search results learned",
    "rl1": "GRPO with simulated searches",
    "rl2": "GRPO with the real search",
    "rft": "as sft2, with right trajectories of a trained student added",
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
    "rft": "Learned: the policy's own text. Masked: prompt, search results, inserted markers.",
}
_METRICS = {
    "exact_match": "exact match",
    "cover_exact_match": "cover exact match",
    "f1": "F1",
    "actions": "actions",
}


class ModelCard(NamedTuple):
    """A card, and what it was made of."""

    text: str
    chain: Sequence[TrainedStage]
    """The stages behind the model, its own the last."""
    results: Sequence[Result]
    """Evaluations of these very weights."""


def model_card(folder: Path, section: RenderParams) -> ModelCard:
    """Measure a model's folder and write its card."""
    chain = trained.chain(folder)
    run = chain[-1]
    fingerprint = fingerprint_files(folder)
    results = trained.results(fingerprint)
    teachers, set_sources = models_and_sources(trained.sets_of(chain))
    sources = list(dict.fromkeys([*set_sources, *trained.other_sources(chain)]))
    title = f"{section.title}: {folder.name}"
    base = chain[0].init
    settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["train"]
    prompt = Prompt.load(Path(settings["prompt"]), settings["chat_template"] or "{prompt}")
    files = [(inline(path), inline(sha256)) for path, sha256 in trained.data_files(chain).items()]
    runs: list[list[Cell]] = []
    for stage in chain:
        objective = Markdown(_OBJECTIVES.get(stage.stage, stage.stage))
        data_names = Markdown(", ".join(inline(item) for item in stage.data))
        rate = Markdown(str(stage.arguments.get("learning_rate", "")))
        runs.append([inline(stage.folder.name), objective, data_names, stage.steps, rate])
    context = {
        "title": title,
        "stage": run.stage,
        "begins": f" and begins with {inline(base)}" if base else ", trained from scratch",
        "repository": str(folder),
        "name": "model",
        "is_all_scripted": False,
        "scripted": ", ".join(inline(name) for name in teachers if is_scripted(name)),
        "prompt": fence(prompt.fill("{question}").rstrip("\n")),
        "chain": table(("run", "objective", "on", "steps", "learning rate"), runs),
        "has_curves": (folder / "curves.png").exists(),
        "data": table(("file", "SHA-256"), files),
        "masks": Markdown(_MASKS.get(run.stage, "")),
        "results": results_table(results),
        "fingerprint": fingerprint,
        "settings": settings_block(public({**run.settings, "arguments": run.arguments})),
        "licences": licence_table(sources, section.licenses),
    }
    data = _metadata(results, sources, section, title=title, base=base)
    return ModelCard(assemble_card(data, fill("model.md", context)), chain, results)


def results_table(found: Sequence[Result]) -> Markdown | str:
    """Write a row for each evaluation, of several sets one for each; empty where there is none.

    Means have their intervals: actions as they are, everything else in per cent.
    """
    if not found:
        return ""
    rows: list[list[Cell]] = []
    for result in found:
        setting = result.setting
        search = inline(setting["search"]) if setting.get("search") else Markdown("no search")
        for part in result.parts():
            shown: list[Cell] = []
            for name in _METRICS:
                value = part.metrics.get(name)
                form = ".2f" if name == "actions" else ".1%"
                mean = f"{{value:{form}}} [{{low:{form}}}, {{high:{form}}}]"
                shown.append(Markdown(mean.format(**value) if value else ""))
            asked = Markdown(", ".join(words(name) for name in result.asked(part)))
            rows.append([asked, part.num_questions, *shown, search])
    return table(("asked", "questions", *_METRICS.values(), "search"), rows)


def _metadata(
    results: Sequence[Result],
    sources: Sequence[Source],
    section: RenderParams,
    *,
    title: str,
    base: str,
) -> "ModelCardData":
    """Make the metadata of the card, with its results as the Hub reads them."""
    from huggingface_hub import EvalResult, ModelCardData

    measured: list[EvalResult] = []
    for result in results:
        for part in result.parts():
            asked = ", ".join(result.asked(part))
            for name in ("exact_match", "f1"):
                value = part.metrics.get(name)
                if not value:
                    continue
                found = EvalResult(
                    task_type="question-answering",
                    dataset_type="coa",
                    dataset_name=asked,
                    # Without it the Hub takes all results for results on one data set.
                    dataset_config=asked,
                    metric_type=name,
                    metric_value=round(value["value"], 4),
                    metric_name=_METRICS[name],
                )
                measured.append(found)
    return ModelCardData(
        language=list(section.languages),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=sorted({"agent", "chain-of-action", "search", "arxiv:2503.06580"}),
        base_model=base or None,
        datasets=[section.repository] if section.repository else None,
        model_name=title if measured else None,
        eval_results=measured or None,
        **licence_fields(sources, section.licenses),
    )


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
    return MODEL_CARDS / folder.name
