"""The command that writes a pipeline names the metrics that a run of another profile left."""

from pathlib import Path

import pytest

from coa.params import main
from coa.pipeline import unwritten_metrics


def test_metrics_of_stages_that_the_pipeline_lacks_are_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("conf", "pipeline"):
        (tmp_path / name).symlink_to(root / name)
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    for name in ("grade.json", "microworld.json", "sample_coa.json", "train_rft.json"):
        (metrics / name).write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shipped = main(["conf/microworld.yaml", "conf/hotpotqa.yaml"])
    assert shipped.endswith(": metrics/train_rft.json")
    summary = main(["conf/microworld.yaml"])
    assert summary.endswith(
        "\nfigures that another profile left, which this one does not touch: metrics/train_rft.json"
    )
    assert unwritten_metrics() == ["metrics/train_rft.json"]
    (metrics / "train_rft.json").unlink()
    assert "train_rft" not in main(["conf/microworld.yaml"])
