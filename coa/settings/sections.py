"""Name the sections of the settings and the dataclass of each, which holds its defaults.

A dataclass is imported when its section is asked for. So this list may name those of all packages,
and a command that reads three sections imports no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

SECTIONS = {
    "pipeline": "coa.settings.stages:PipelineParams",
    "microworld": "coa.microworld.factory:MicroworldParams",
    "questions": "synth.questions:QuestionParams",
    "base": "coa.student.base_models:BaseParams",
    "fetch": "synth.fetch:FetchParams",
    "ingest": "synth.ingest:IngestParams",
    "index": "coa.search.index:IndexParams",
    "search": "coa.search.settings:SearchParams",
    "serve": "coa.search.serve:ServeParams",
    "search_evaluate": "coa.search.evaluate:SearchEvaluateParams",
    "tools": "coa.tools.settings:ToolsParams",
    "teacher": "coa.rollout.factory:TeacherParams",
    "costs": "coa.spending.prices:CostParams",
    "rehearse": "coa.rehearse:RehearseParams",
    "prompts": "coa.policy.prompts:PromptParams",
    "rollout": "coa.rollout.loop:Limits",
    "sample": "synth.sample:SampleParams",
    "judge": "coa.judging.judge:JudgeParams",
    "judge_agreement": "curate.judge_agreement:JudgeAgreementParams",
    "grade": "curate.grade:GradeParams",
    "analyse": "curate.analyse:AnalyseParams",
    "filter": "curate.filter:FilterParams",
    "branch": "coa.rollout.forks:BranchParams",
    "screen": "curate.screen:ScreenParams",
    "assemble": "coa.records.sets:AssembleParams",
    "student_pairs": "curate.student_pairs:StudentPairsParams",
    "student_set": "curate.student_set:StudentSetParams",
    "annotate": "annotate.settings:AnnotateParams",
    "render": "data_cards.settings:RenderParams",
    "models": "data_cards.models:ModelsParams",
    "publish": "data_cards.settings:PublishParams",
    "export": "data_cards.export:ExportParams",
    "doctor": "coa.doctor.settings:DoctorParams",
    "view": "coa.view.settings:ViewParams",
    "train": "coa.student.settings:TrainParams",
    "shards": "coa.shards.stage:ShardsParams",
    "evaluate": "coa.student.evaluate_settings:EvaluateParams",
    "simulator": "coa.rollout.simulators.settings:SimulatorParams",
    "gate": "evaluation.gate:GateParams",
    "fidelity": "evaluation.fidelity:FidelityParams",
    "table": "evaluation.table:TableParams",
    "lab": "lab.chain:LabParams",
    "lab_subset": "lab.subset:LabSubsetParams",
}
"""The module and the name of each section's dataclass."""


CHANGED = {
    ("EvaluateParams", "num_resamples"): "leave it out: intervals are always of 2,000 resamples",
    ("FetchParams", "limit"): "it is called num_questions now",
    ("FetchParams", "repo"): "it is called repository now",
    ("FidelityParams", "min_answer_bearing"): "leave it out: the gate warns below 0.5",
    ("FidelityParams", "min_well_formed"): "leave it out: the gate warns below 0.95",
    ("FidelityParams", "num_resamples"): "leave it out: intervals are always of 2,000 resamples",
    ("FidelityParams", "seed"): "leave it out: predictions are greedy",
    ("GateParams", "num_resamples"): "leave it out: intervals are always of 2,000 resamples",
    ("QuestionFile", "limit"): "it is called num_questions now",
    ("ServeParams", "stop_seconds"): "leave it out: requests in flight have 30 seconds",
    ("StudentSettings", "max_context"): "it is called max_context_tokens now",
    ("TableParams", "num_resamples"): "leave it out: intervals are always of 2,000 resamples",
    ("TableParams", "seed"): "leave it out: intervals do not depend on it",
}
"""What to do about settings of earlier versions, by their record and name."""


def change_of(kind: type[Any] | None, key: str) -> str:
    """Say what to do about a setting that an earlier version had; empty for any other key."""
    return CHANGED.get((kind.__name__, key), "") if kind is not None else ""


@cache
def kind_of(section: str) -> type[Any] | None:
    """Return the dataclass of a section; None where the section is not ours."""
    if section not in SECTIONS:
        return None
    module, _, name = SECTIONS[section].partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def hints_of(kind: Any) -> dict[str, Any]:
    """Return the types of a record's fields in their order."""
    return _hints_of(kind)


@cache
def _hints_of(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def default_of(field: "Field[Any]") -> Any:
    """Return the default of a field; `MISSING` where it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def with_defaults(kind: type[Any], given: Mapping[str, Any], preset: Any = None) -> dict[str, Any]:
    """Return the values of a section, those that are not given by the section's defaults.

    A list or a mapping with keys of the user's choice is taken as it is given. Keys that the
    dataclass does not know stay, too: who checks them names them. `preset` is a record with the
    defaults of a section within one.
    """
    hints = hints_of(kind)
    values: dict[str, Any] = {}
    for field in fields(kind):
        name = field.name
        default = default_of(field) if preset is None else getattr(preset, name)
        is_section = is_dataclass(hints[name])
        if is_section and isinstance(given.get(name, {}), Mapping):
            inner = None if default is MISSING else default
            values[name] = with_defaults(hints[name], given.get(name, {}), inner)
        elif name in given:
            values[name] = given[name]
        elif default is not MISSING:
            values[name] = msgspec.to_builtins(default)
    return values | {key: value for key, value in given.items() if key not in values}


def chosen_part(kind: type[Any] | None, values: Mapping[str, Any], chosen: Any) -> dict[str, Any]:
    """Return of a section's values those whose keys `chosen` has, in its order."""
    hints = hints_of(kind) if kind is not None else {}
    found: dict[str, Any] = {}
    for key, value in chosen.items():
        inner = hints.get(key)
        if key not in values:
            continue
        if is_dataclass(inner) and isinstance(value, Mapping):
            found[key] = chosen_part(inner, values[key], value)  # type: ignore[arg-type]
        else:
            found[key] = values[key]
    return found


TRUTH = {"on": True, "yes": True, "y": True, "off": False, "no": False, "n": False}
"""Words that some readers of YAML take for truth values, and others for texts."""


def adapt(value: Any, hint: Any) -> Any:
    """Return a value as its setting takes it, where it was written in a shorter way.

    A list takes one bare value, and nothing is an empty list; an empty text is null where the
    setting may be unset and takes no text; `yes` is true where the setting is true or false.
    """
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if isinstance(value, str):
        if any(isinstance(kind, type) and issubclass(kind, str) for kind in options):
            return value
        if bool in options:
            return TRUTH.get(value.lower(), value)
    for option in options:
        if get_origin(option) is tuple:
            entry = get_args(option)[0]
            is_unset = value in (None, "") and NoneType in options
            return None if is_unset else [adapt(item, entry) for item in as_list(value)]
        if is_dataclass(option) and isinstance(value, Mapping):
            hints = hints_of(option)
            return {key: adapt(inner, hints.get(key)) for key, inner in value.items()}
    return None if value == "" and NoneType in options else value


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, nothing as an empty one, and a bare value as a list of itself."""
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None or value == "" else [value]


def entry_hint(hint: Any) -> Any:
    """Return the type of the entries of a list or a mapping; None for another type."""
    kind = get_origin(hint)
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Mapping):
        return get_args(hint)[1]
    return get_args(hint)[0] if issubclass(kind, Sequence) else None
