"""Fixtures that several test modules share.

Not covered, and why: training on a GPU and a real vLLM server (no such machine in CI; opt-in by the marker `gpu`); web
search (needs the internet; opt-in by the marker `network`).
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# One thread each: tests share two cores, and a run must not depend on how many there are.
for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ.setdefault(name, "false" if name.startswith("TOKENIZERS") else "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Same examples in every run: a red build must be reproducible, and no time limit: CI machines are noisy.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).parent.parent
