"""Every setting with its value in the default profile, for tests that change a few of them."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from coa.settings.params import Params

PROFILE = Path(__file__).parent.parent / "conf/microworld.yaml"


@cache
def _values() -> dict[str, Any]:
    return Params.load("pipeline", (), PROFILE).values()


def every_setting() -> Any:
    """Return a new mapping of all sections, to be changed and saved as params.yaml."""
    return OmegaConf.create(_values())


def change_settings(section: str, **values: Any) -> None:
    """Change settings of a section in params.yaml of the current folder."""
    path = Path("params.yaml")
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    sections.setdefault(section, {}).update(values)
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
