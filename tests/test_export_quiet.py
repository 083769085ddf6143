"""An export whose stderr is a file writes no bars into it, and its page names its own sets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("datasets")

from tests.tokenizers_support import byte_level


@pytest.mark.long
def test_an_export_without_a_terminal_shows_no_bars_and_lists_the_sets_it_wrote(
    small_run: Path, root: Path, tmp_path: Path
) -> None:
    byte_level().save_pretrained(tmp_path / "tokenizer")
    settings = [
        f"out={tmp_path / 'out'}",
        f"prompt={root / 'train/prompts/question.txt'}",
        f"tokenizer={tmp_path / 'tokenizer'}",
        "sets=[cot]",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "data_cards.export", *settings],
        cwd=small_run,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "%|" not in done.stderr
    assert "examples" not in done.stderr
    page = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "It holds `cot` (train, validation), each" in page
