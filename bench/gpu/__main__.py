"""Measure on one GPU what a GPU can prove, and write docs/gpu_results.md.

    python -m bench.gpu                                 # all parts, about 40 minutes
    python -m bench.gpu parts=[versions,data,lora]      # some
    python -m bench.gpu rehearse=true out=/tmp/rows page=/tmp/page.md     # tiny sizes, on a CPU

Parts: versions, data, student (0.15B weights through all stages), lora and full (random weights of
7B's architecture: a few steps of sft1, sft2, sft3, rl2), logprobs (bfloat16 beside float32),
engines. Each row is written to `out` at once; a row that is there is not measured again.
Nothing is downloaded. The data and models of the run are in the folder `work`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import yaml

from bench.gpu.page import render
from bench.gpu.parts import PARTS, device
from bench.gpu.rows import Row, read_rows, write_row
from bench.gpu.sizes import REAL, REHEARSAL
from bench.gpu.workplace import Workplace
from coa.errors import ConfigError, unknown_name
from coa.store.whole_files import write_file


@dataclass(frozen=True, slots=True)
class GpuParams:
    """What is measured, and where the files go."""

    parts: list[str] = field(default_factory=lambda: list(PARTS))
    rehearse: bool = False
    out: str = "results/gpu"
    work: str = ".gpu_bench"
    page: str = "docs/gpu_results.md"


def read_arguments(arguments: Sequence[str]) -> GpuParams:
    """Read `key=value` arguments.

    Raises:
        ConfigError: a key or a part is unknown, or a value has the wrong type.
    """
    values = {}
    for argument in arguments:
        key, _, text = argument.partition("=")
        values[key] = yaml.safe_load(text)
    unknown = sorted(set(values) - set(GpuParams.__dataclass_fields__))
    if unknown:
        raise unknown_name("setting", unknown[0], list(GpuParams.__dataclass_fields__))
    try:
        params = msgspec.convert(values, GpuParams)
    except msgspec.ValidationError as error:
        raise ConfigError(
            "cannot read the arguments", where="the command line", got=error
        ) from error
    for part in params.parts:
        if part not in PARTS:
            raise unknown_name("part", part, list(PARTS))
    return params


def measure(params: GpuParams) -> list[Row]:
    """Measure the parts; write each row as soon as it is there and return all of them.

    Raises:
        ConfigError: there is no GPU and this is no rehearsal.
    """
    where = device()
    if where.startswith("no GPU") and not params.rehearse:
        raise ConfigError("there is no GPU", expected="a GPU, or rehearse=true")
    work = Path(params.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    place = Workplace(work, REHEARSAL if params.rehearse else REAL)
    out = Path(params.out)
    done = {row.part for row in read_rows(out)}
    for part in params.parts:
        if part in done:
            print(f"{part}: measured before, see {out}")
            continue
        command = f"python -m bench.gpu parts=[{part}]"
        for row in PARTS[part](place):
            row = replace(row, command=command, device=where, is_rehearsal=params.rehearse)
            write_row(out, row)
            print(f"{part} {row.name}: {row.not_run or dict(row.figures)}", flush=True)
    return read_rows(out)


def main(arguments: Sequence[str]) -> str:
    """Measure, write the page and return the summary line."""
    params = read_arguments(arguments)
    rows = measure(params)
    write_file(Path(params.page), render(rows))
    return f"{params.page}: {len(rows)} rows"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
