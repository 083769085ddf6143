"""Every setting with its value in the default profile, for tests that change a few of them."""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from coa.settings.params import Params

PROFILE = Path(__file__).parent.parent / "conf/microworld.yaml"


@cache
def _values() -> dict[str, Any]:
    return Params.load("pipeline", (), PROFILE).values()


def every_setting() -> Any:
    """Return a new mapping of all sections, to be changed and saved as params.yaml."""
    return OmegaConf.create(_values())
