"""Write docs/map.md: every module of the project with the first sentence of its docstring.

python -m scripts.file_map        # part of `make docs`
"""

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAP = Path("docs/map.md")
MARKER = "<!-- From here on written by `make docs` from the docstrings of the modules. -->"
PACKAGES = (
    "coa",
    "synth",
    "curate",
    "annotate",
    "data_cards",
    "train",
    "evaluation",
    "lab",
    "scripts",
    "bench",
)


def first_sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring, on one line."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(doc.split("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`\"'*])[.] ", paragraph, maxsplit=1)[0].rstrip(".:")


def render_folder(folder: Path) -> str:
    """Return one folder as Markdown: what it is, and a row for each module in it."""
    name = folder.relative_to(ROOT).as_posix()
    lines = [f"## `{name}/`", "", first_sentence(folder / "__init__.py") + ".", ""]
    modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    if modules:
        lines += ["| file | what it does |", "|---|---|"]
    for path in modules:
        sentence = first_sentence(path).replace("|", "\\|")
        lines.append(f"| `{path.relative_to(ROOT).as_posix()}` | {sentence} |")
    return "\n".join(lines).rstrip()


def write_map(text: str) -> str:
    """Return the text of docs/map.md with all below the marker written anew."""
    head, marker, _ = text.partition(MARKER)
    assert marker, f"{MAP} has lost its marker"
    parts = [head + marker]
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("__init__.py")):
            parts.append(render_folder(file.parent))
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> str:
    """Write the map again; the summary line is returned."""
    path = ROOT / MAP
    path.write_text(write_map(path.read_text(encoding="utf-8")), encoding="utf-8")
    return f"{MAP} is written"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
