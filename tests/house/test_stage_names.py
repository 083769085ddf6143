"""Check that one word names a stage, its module, its settings and its outputs."""

from typing import Any

from ruamel.yaml import YAML

from coa.code_hashes import modules_of
from tests.house.sources import ROOT


def yaml(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))
    return found


PIPELINE = yaml("dvc.yaml")["stages"]


def stage(name: str) -> dict[str, Any]:
    found: dict[str, Any] = PIPELINE[name].get("do", PIPELINE[name])
    return found


def command(name: str) -> str:
    """What a stage runs, or the first of several."""
    found: str | list[str] = stage(name)["cmd"]
    return found if isinstance(found, str) else found[0]


def test_one_word_stands_in_four_places() -> None:
    for name in PIPELINE.keys() - {"code"}:
        check_names_of(name)


def check_names_of(name: str) -> None:
    """Check that a stage's module, outputs and settings bear its name."""
    module, word = (
        modules_of(name, command(name))[0],
        name.rpartition("_")[2],
    )  # student_grade: the stage grade once more
    section = f"train.{name}" if module == "train.run" else name
    folders = [
        f"data/{name}",
        f"data/{name.replace('_', '/')}",
        f"data/train/{name}",
        f"{name}s/",
        f"results/{name}",
        f"reports/{name}",
    ]
    assert module.rpartition(".")[2] == word or f"stage={name}" in command(name)
    assert all(
        path.startswith(tuple(folders)) for path in map(path_of, stage(name).get("outs", []))
    )
    read = [*stage(name).get("params", []), *stage(name).get("meta", {}).get("by_default", [])]
    params = {*read, *(param.partition(".")[0] for param in read)} or {word}
    assert {section, word, "train"} & params or name.startswith("student_") or name == "report"


def path_of(out: str | dict[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))
