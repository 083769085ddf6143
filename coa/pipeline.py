"""Write dvc.yaml: the stages that params.yaml needs, and no other.

    python -m coa.pipeline        # `python -m coa.params PROFILE` does it too

The stages stand in pipeline/stages.yaml.jinja, the code that each one runs in pipeline/code.yaml.
Which stages a run has follows from its settings (coa/plan.py). DVC itself cannot leave out a stage
by a setting (docs/decisions/0009-dvc-yaml-is-written.md).
"""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from ruamel.yaml import YAML

from coa.factory import BEHIND_SERVER, TeacherParams
from coa.interruption import tell
from coa.metrics import FOLDER as METRICS
from coa.params import Params
from coa.plan import Plan
from coa.terminal import printable
from coa.whole_files import write_file

PIPELINE_FILE = Path("dvc.yaml")
FOLDER = Path("pipeline")
TEMPLATE = "stages.yaml.jinja"
CODE_FILE = FOLDER / "code.yaml"
CODE_MARKER = "# code, written by `make deps`"
_METRICS_PATH = re.compile(r"metrics/\S+?\.json")
_VARIABLE = re.compile(r"\$\{[^}]*\}")
_SHIPPED = "metrics/microworld.json"


def write_pipeline(params: Params, out: Path = PIPELINE_FILE) -> Plan:
    """Write `out` with the stages that the settings need.

    Raises:
        ConfigError: the settings contradict each other.
        OutputError: the file cannot be written.
    """
    plan = Plan(params)
    write_file(out, render_pipeline(plan, read_code()))
    return plan


def render_pipeline(plan: Plan, code: Mapping[str, Sequence[str]]) -> str:
    """Return the text of dvc.yaml; `code` holds the files that each stage runs."""

    def list_code(stage: str, indent: int = 6) -> str:
        lines = [CODE_MARKER, *(f"- {path}" for path in code.get(stage, ()))]
        return "\n".join(" " * indent + line for line in lines)

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = json.dumps
    text = environment.get_template(TEMPLATE).render(plan=plan, code=list_code)
    lines = [line for line in text.splitlines() if line.strip() or not line]
    return "\n".join(lines) + "\n"


def read_code() -> dict[str, list[str]]:
    """Read which files each stage runs."""
    found: dict[str, list[str]] = YAML(typ="safe").load(CODE_FILE.read_text(encoding="utf-8"))
    return found


def main(arguments: Sequence[str]) -> str:
    """Write dvc.yaml for params.yaml as it is; return the summary line."""
    params = Params.load("pipeline", arguments)
    plan = write_pipeline(params)
    warn_of_key(params.section(TeacherParams, "teacher"))
    return summary(plan)


def warn_of_key(teacher: TeacherParams) -> None:
    """Tell early that the teacher's key is not set; it is no error, as a run may be elsewhere."""
    variable = teacher.server.api_key_env
    if teacher.policy in BEHIND_SERVER and variable and not os.environ.get(variable, "").strip():
        line = f"teacher.server.api_key_env: {variable} is not set here; the first call needs it"
        tell(printable(line))


def summary(plan: Plan) -> str:
    """Say in a line what the pipeline does."""
    training = ", ".join(plan.training) or "none"
    others = ", ".join(unwritten_metrics())
    left = f"\nfigures that another profile left, which this one does not touch: {others}"
    return f"{PIPELINE_FILE}: training stages: {training}{left if others else ''}"


def unwritten_metrics(pipeline: Path = PIPELINE_FILE, folder: Path = METRICS) -> list[str]:
    """List the files in metrics/ that no stage of the pipeline writes.

    Another profile's run leaves its own. What the repository ships of the default world is no
    news: no run of one's own questions writes it.
    """
    written = []
    for path in _METRICS_PATH.findall(pipeline.read_text(encoding="utf-8")):
        written.append(_VARIABLE.sub("*", path))
    others = []
    for path in sorted(folder.glob("*.*")):
        name = path.relative_to(folder.parent).as_posix()
        if name != _SHIPPED and not any(fnmatch(name, pattern) for pattern in written):
            others.append(name)
    return others


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
