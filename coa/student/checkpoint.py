"""Load and save models: what a stage starts from, what it leaves, and where a killed run resumes.

data/train/{name}/ is the result: a folder that `transformers` loads, with the resolved params, the
log as JSON lines and the curves. .checkpoints/{name}/ holds the trainer's own checkpoints: outside
DVC's outputs, which DVC deletes before it runs a stage again.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import CoaError, ConfigError, InputError, OutputError, writing_error
from coa.policy.local.model import load_tokenizer
from coa.store.files import TRAINED
from coa.store.whole_files import write_file

OUT = TRAINED
CHECKPOINTS = Path(".checkpoints")
_INPUTS = "inputs.json"
_STATE = "trainer_state.json"
"""What a trainer writes last into a checkpoint: one without it was cut off by a kill."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors ends its message."""
_TORCH_WRITING = re.compile(r"PytorchStreamWriter failed writing|iostream error|unexpected pos")
"""What torch says, which keeps the reason to itself: almost always a full disk."""
_TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}
"""The sizes of a dry run's model, where its architecture has them; vLLM takes no smaller heads."""


class Student(NamedTuple):
    """A model with its tokenizer."""

    model: Any
    tokenizer: Any


def load_student(init: str, *, is_frozen: bool = False, is_dry_run: bool = False) -> Student:
    """Load the model and tokenizer in a folder or on the Hub.

    The weights are float32: in bfloat16 small updates would be lost. A frozen model, which only
    gets adapters, is loaded in bfloat16 where there is a GPU. A dry run gets a tiny random model of
    the same architecture, for which config.json and the tokenizer suffice.

    Raises:
        InputError: a stage's model is not there yet; says which command makes it.
        ConfigError: there is no such model, or its tokenizer does not belong to it.
    """
    folder = Path(init)
    if folder.parent == OUT and not (folder / "config.json").is_file():
        command = f"coa train stage={folder.name}"
        own_name = f"stage=STAGE name={folder.name} if the name is yours"
        raise InputError(
            f"there is no model in {init}", fix=f"train it first: {command}, or {own_name}"
        )
    tokenizer = load_tokenizer(init)
    try:
        model = _tiny_model(init, tokenizer) if is_dry_run else _load_model(init, is_frozen)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"cannot load the model {init!r}", got=reason, fix="give a folder or a name on the Hub"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            "the tokenizer has no end-of-turn token",
            where=init,
            expected="eos_token in tokenizer_config.json",
        )
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ConfigError(
            "the tokenizer is not this model's",
            where=init,
            expected=f"at most {rows} tokens",
            got=len(tokenizer),
        )
    return Student(model, tokenizer)


def _load_model(init: str, is_frozen: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if is_frozen and torch.cuda.is_available() else torch.float32
    return AutoModelForCausalLM.from_pretrained(init, dtype=dtype)


def _tiny_model(init: str, tokenizer: Any) -> Any:
    """Make a random model of the architecture of `init` with its vocabulary and two thin layers.

    It is loaded from a folder of its own, which goes when the model does: GRPO's reference model
    and vLLM's copy are loaded by the name that a model was loaded from, and with that of `init`
    they would be the real weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config: Any = AutoConfig.from_pretrained(init)
    for name, size in _TINY.items():
        if getattr(config, name, None) is not None:
            setattr(config, name, size)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    torch.manual_seed(0)
    folder = tempfile.mkdtemp(prefix="coa_dry_run_")
    auto_model: Any = AutoModelForCausalLM
    random_model = auto_model.from_config(config, dtype=torch.float32)
    random_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = auto_model.from_pretrained(folder, dtype=torch.float32)
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    return model


class Workspace:
    """The folders of one run."""

    def __init__(self, name: str) -> None:
        if not name or name != Path(name).name or name.startswith("."):
            raise ConfigError(
                "the run's name is not a plain folder name",
                expected="train.name=sft2_only",
                got=name,
            )
        self.name = name
        self.out = OUT / name
        self.checkpoints = CHECKPOINTS / name

    def check_out(self) -> None:
        """Refuse a folder that no training wrote; call it before anything is cleared.

        A finished run leaves its params.yaml there; one that was killed while it saved leaves its
        checkpoints. An `OutputError` says that the folder holds somebody's model.
        """
        is_there = self.out.is_file() or any(self.out.glob("*"))
        is_own = (self.out / "params.yaml").is_file() or self.checkpoints.is_dir()
        if is_there and not is_own:
            raise OutputError(
                f"{self.out} is in the way: nothing was overwritten",
                where=self.out.absolute(),
                expected="no folder, or one that `coa train` made",
                got="what is there has no params.yaml of a run",
                fix="train under another name with train.name=..., or move the model away",
            )

    def resume_from(self, settings: str, inputs: Iterable[str]) -> str | None:
        """Find the last checkpoint of a run with these settings and inputs; None if there is none.

        Checkpoints of other settings or inputs are left behind: they are removed.
        """
        wanted = {
            "settings": hashlib.sha256(settings.encode()).hexdigest(),
            "inputs": _stamps(inputs),
        }
        note = self.checkpoints / _INPUTS
        try:
            found = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else None
            if found == wanted:
                return self._last()
            self.clear()
            write_file(note, json.dumps(wanted))
        except OSError as error:
            raise writing_error(self.checkpoints, error) from error
        return None

    def _last(self) -> str | None:
        states = self.checkpoints.glob(f"checkpoint-*/{_STATE}")
        whole = [state.parent for state in states if _is_json(state)]
        if not whole:
            return None

        def step(folder: Path) -> int:
            return int(folder.name.rpartition("-")[2])

        return str(max(whole, key=step))

    def clear(self) -> None:
        """Remove the checkpoints: the run is finished, or another begins."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def save(self, student: Student, state: Mapping[str, Any] | None = None) -> None:
        """Write the model and its tokenizer; `state` has all weights of a model that is a shard."""
        with explaining_writes(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            # It is written last of all, for a folder that has it is whole. An older model's must
            # not stay.
            (self.out / "params.yaml").unlink(missing_ok=True)
            student.model.save_pretrained(self.out, state_dict=state)
            student.tokenizer.save_pretrained(self.out)


@contextmanager
def explaining_writes(folder: Path) -> Iterator[None]:
    """Raise an `OutputError` that says what to do where a library cannot write under `folder`."""
    from safetensors import SafetensorError

    try:
        yield
    except CoaError:
        raise
    except OSError as error:
        if not _is_about(error, folder):
            raise
        raise writing_error(folder, error) from error
    except (SafetensorError, RuntimeError) as error:
        number = _OS_ERROR.search(str(error))
        if number:
            code = int(number[1])
            raise writing_error(folder, OSError(code, os.strerror(code))) from error
        if isinstance(error, RuntimeError) and _TORCH_WRITING.search(str(error)):
            cause = OSError(errno.ENOSPC, str(error).partition("\n")[0])
            raise writing_error(folder, cause) from error
        raise


def _is_about(error: OSError, folder: Path) -> bool:
    """Tell a file that cannot be written from a lost connection or a file elsewhere."""
    if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
        return False
    if error.filename is None:
        return True
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False
    return True


def _stamps(inputs: Iterable[str]) -> list[list[str]]:
    """Return name, size and time of every file of the inputs: another file is another run."""
    found: list[Path] = []
    for item in inputs:
        path = Path(item)
        found.extend([path] if path.is_file() else path.rglob("*"))
    stamps = []
    for file in sorted(found):
        if file.is_file():
            stat = file.stat()
            stamps.append([str(file), str(stat.st_size), str(stat.st_mtime_ns)])
    return stamps
