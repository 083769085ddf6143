"""Render the card of a trained model from its facts.

`data_cards.cards.measure_model` makes the facts. Here they become Markdown: templates/model.md has
the text around the tables.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coa.errors import ConfigError
from coa.policy.scripted import is_scripted
from data_cards.cards import practice
from data_cards.cards.card import fill
from data_cards.cards.front_matter import assemble_card
from data_cards.cards.licences import Source, licence_fields, licence_table
from data_cards.cards.measure_model import ModelFacts
from data_cards.cards.safe_markdown import Cell, Markdown, fence, inline, table, words
from data_cards.cards.trained import Result, ResultPart, TrainedStage
from data_cards.settings import RenderParams, settings_block

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

MODEL_CARDS = Path("data/models")
_DOES = {
    "pretrain": "knows a part of a world's facts and has not learned to search",
    "sft1": "has learned when to search",
    "sft2": "has learned when and how to search",
    "sft3": "has learned to search and to predict what a search returns",
    "rl1": "has practised on simulated searches",
    "rl2": "has practised with a real search",
    "rft": "has learned to search, from a student's own right answers too",
}
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
    "sft1": (
        "Learned: the policy's own text after the point where a pair's sides part;"
        " with another loss than contrastive, only the decision there."
    ),
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
    "actions": "searches",
}
_UTILITY = "utility"
_CALLS = "calls_"
_MAX_FIGURES = 20
"""Figures of the validation that a card shows."""


class ModelCard(NamedTuple):
    """A card and what the gate asks about its model."""

    text: str
    sources: tuple[Source, ...]
    teachers: tuple[str, ...]
    """Who wrote the trajectories of its sets."""
    num_stages: int
    """The stages behind it, its own included."""
    num_results: int
    other_results: tuple[str, ...]
    """Results of other weights that lay in the same folder."""


def render_card(facts: ModelFacts, section: RenderParams, repository: str = "") -> ModelCard:
    """Write the card of a model.

    Args:
        facts: What was measured of the model.
        section: What the card cannot count.
        repository: Where the model is published; empty: its folder.
    """
    title = f"{section.title}: {facts.folder.name}"
    scripted = [inline(name) for name in facts.teachers if is_scripted(name)]
    context = {
        **_context(facts),
        "title": title,
        "repository": repository or str(facts.folder),
        "name": "model",
        "is_all_scripted": False,
        "scripted": ", ".join(scripted),
        "licences": licence_table(facts.sources, section.licenses),
    }
    body = fill("model.md", context)
    return ModelCard(
        text=assemble_card(_metadata(facts, section, title), body),
        sources=facts.sources,
        teachers=facts.teachers,
        num_stages=len(facts.chain),
        num_results=len(facts.results),
        other_results=facts.other_results,
    )


def _context(facts: ModelFacts) -> dict[str, Any]:
    run = facts.chain[-1]
    begins = ", trained from scratch"
    if facts.base:
        begins = f" and begins with {inline(facts.base)}"
    return {
        "stage": run.stage,
        "does": _DOES.get(run.stage, "was trained"),
        "begins": begins,
        "architecture": _architecture(facts),
        "prompt": fence(facts.prompt),
        "chain": _chain(facts.chain),
        "figures": _figures(run),
        "has_curves": facts.has_curves,
        "gate": practice.gate_table(facts.gate),
        "waivers": practice.waivers(facts.gate),
        "searches": practice.searches_table(facts.searches),
        "data": _data(facts.data_files),
        "masks": Markdown(_MASKS.get(run.stage, "")),
        "results": results_table(facts.results),
        "fingerprint": facts.fingerprint,
        "other_results": ", ".join(inline(name) for name in facts.other_results),
        "settings": settings_block(facts.settings),
    }


def _architecture(facts: ModelFacts) -> Markdown:
    rows: list[Sequence[Cell]] = [(Markdown("architecture"), inline(facts.architecture))]
    for what, size in facts.sizes.items():
        rows.append((Markdown(what), size))
    rows.append((Markdown("bytes of weights"), facts.num_weight_bytes))
    return table(("", "value"), rows)


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


def _data(hashes: Mapping[str, str]) -> Markdown:
    rows = []
    for path, sha256 in hashes.items():
        rows.append((inline(path), inline(sha256)))
    return table(("file", "SHA-256"), rows)


def results_table(found: Sequence[Result]) -> Markdown | str:
    """Write a row for each evaluation, of several sets one for each; empty where there is none."""
    if not found:
        return ""
    rows: list[list[Cell]] = []
    columns = _columns(found)
    for result in found:
        setting = result.setting
        search = inline(setting["search"]) if setting.get("search") else Markdown("no search")
        for part in result.parts():
            shown = [Markdown(_interval(name, part.metrics.get(name))) for name in columns]
            asked = Markdown(", ".join(words(name) for name in _asked(setting, part)))
            rows.append([asked, part.num_questions, *shown, search])
    return table(("asked", "questions", *columns.values(), "search"), rows)


def _columns(found: Sequence[Result]) -> dict[str, str]:
    """Choose the measures that the results have, and their titles.

    Utility is there where searches have a price, the calls of each tool where there is more than
    the search.
    """
    columns = dict(_METRICS)
    for result in found:
        if result.metrics.get(_UTILITY):
            columns[_UTILITY] = "utility"
        for tool in result.setting.get("tools", ()):
            columns["actions"] = "actions"
            columns[f"{_CALLS}{tool}"] = f"calls of {words(tool)}"
    return columns


def _asked(setting: Mapping[str, Any], part: ResultPart) -> list[str]:
    """Name the questions that figures are of, and how they were asked."""
    names = [str(setting["split"]), str(setting["mode"]), part.title]
    return [name for name in names if name]


def _interval(name: str, value: Any) -> str:
    """Write a mean with its interval: calls as they are, everything else in per cent."""
    if not value:
        return ""
    if name == "actions" or name.startswith(_CALLS):
        return f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
    percent = value["value"] * 100
    low = value["low"] * 100
    high = value["high"] * 100
    return f"{percent:.1f} [{low:.1f}, {high:.1f}]"


def _eval_results(asked: str, part: ResultPart) -> "list[EvalResult]":
    """Write the figures of one evaluation set as the Hub reads them."""
    from huggingface_hub import EvalResult

    found = []
    for name in ("exact_match", "f1"):
        value = part.metrics.get(name)
        if value:
            found.append(
                EvalResult(
                    task_type="question-answering",
                    dataset_type="coa",
                    dataset_name=asked,
                    # Without it the Hub takes all results for results on one data set.
                    dataset_config=asked,
                    metric_type=name,
                    metric_value=round(value["value"], 4),
                    metric_name=_METRICS[name],
                )
            )
    return found


def _metadata(facts: ModelFacts, section: RenderParams, title: str) -> "ModelCardData":
    """Make the metadata of the card, with its results as the Hub reads them."""
    from huggingface_hub import ModelCardData

    measured: list[EvalResult] = []
    for result in facts.results:
        for part in result.parts():
            measured += _eval_results(", ".join(_asked(result.setting, part)), part)
    return ModelCardData(
        language=list(section.languages),
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=sorted({"agent", "chain-of-action", "search", "arxiv:2503.06580"}),
        base_model=facts.base or None,
        datasets=[section.repository] if section.repository else None,
        model_name=title if measured else None,
        eval_results=measured or None,
        **licence_fields(facts.sources, section.licenses),
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
    return MODEL_CARDS / folder.name
