"""Call commands of the project, for the tests of the gate."""

import os
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("linkify_it")


def call(*command: str) -> None:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CEILING_DIRECTORIES": str(Path.cwd().parent),
    }
    subprocess.run(command, check=True, capture_output=True, env=environment)
