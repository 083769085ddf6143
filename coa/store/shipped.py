"""Find the files that come with the tool: profiles and prompts.

A project of one's own lies beside the tool and names them as the tool's own repository does, such
as `synth/prompts/coa.txt`. A file of that name in the project goes before the shipped one.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
"""The folder of all packages, and of what is shipped beside them."""
_ENDINGS = (".txt", ".yaml")
"""Of prompts and of profiles."""


def find_shipped(path: str | Path) -> Path:
    """Return where a file lies: as it is named, or else with the tool, if it is shipped."""
    own = Path(path)
    if not own.name.endswith(_ENDINGS) or len(own.parts) == 1 or own.exists():
        return own
    shipped = ROOT / own
    return shipped if shipped.is_file() else own


def is_only_shipped(path: str) -> bool:
    """Tell whether a file comes with the tool and the project has none of that name."""
    return find_shipped(path) != Path(path)
