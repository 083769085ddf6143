"""The notebook runs from its first cell to its last."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project_support import environment


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(
    root: Path, finished_project: Path, tmp_path: Path
) -> None:
    notebook = json.loads((root / "examples/tour.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    project = shutil.copytree(finished_project, tmp_path / "project", symlinks=True)
    (project / "examples").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(cells)],
        cwd=project / "examples",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(cells) == 6
    assert "chosen:" in done.stdout
    assert "# " in done.stdout
