"""Write dvc.yaml: the stages that params.yaml needs, and no other. `coa params` is the command.

The stages are in pipeline/stages.yaml.jinja. Which of them a run has follows from its settings
(coa/plan.py). DVC itself cannot leave out a stage by a setting
(docs/decisions/0009-dvc-yaml-is-written.md).
"""

import json
import os
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coa.code_hashes import PIPELINE_FILE
from coa.interruption import tell
from coa.plan import Plan
from coa.policy.server_settings import shown_variable
from coa.rollout.factory import BEHIND_SERVER, TeacherParams
from coa.store.output_file import signed
from coa.store.shipped import ROOT, find_shipped, is_only_shipped
from coa.store.whole_files import write_file
from coa.terminal import printable

FOLDER = ROOT / "pipeline"
TEMPLATE = "stages.yaml.jinja"
_HEAD = "# Written by `coa params`; what follows has the hash "
_WITHIN_STAGE = re.compile(r"\n\s*\n(?=    )")
"""The blank lines that a part of the template leaves which the run does not need."""


def write_pipeline(text: str, out: Path = PIPELINE_FILE) -> None:
    """Write the text of dvc.yaml below a line with its hash, by which a change is seen later.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(out, signed(_HEAD, text))


def copy_launch_files(plan: Plan) -> None:
    """Copy shipped files that the command of a training names into the project.

    Another program reads them there, as accelerate does, and their numbers are the user's to adapt.

    Raises:
        OutputError: a file cannot be written.
    """
    for word in plan.launch.split():
        if is_only_shipped(word):
            write_file(Path(word), find_shipped(word).read_bytes())


def render_pipeline(plan: Plan) -> str:
    """Return the text of dvc.yaml."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = json.dumps
    text = environment.get_template(TEMPLATE).render(plan=plan)
    return _WITHIN_STAGE.sub("\n", text).rstrip() + "\n"


def warn_of_key(teacher: TeacherParams) -> None:
    """Tell early that the teacher's key is not set; it is no error, as a run may be elsewhere."""
    variable = teacher.server.api_key_env
    if teacher.policy in BEHIND_SERVER and variable and not os.environ.get(variable, "").strip():
        name = shown_variable(variable)
        line = f"teacher.server.api_key_env: {name} is not set here; the first call needs it"
        tell(printable(line))


def summary(plan: Plan) -> str:
    """Say in a line what the pipeline does."""
    training = ", ".join(plan.training) or "none"
    return f"{PIPELINE_FILE}: training stages: {training}"
