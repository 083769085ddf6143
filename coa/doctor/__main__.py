"""Say what a set trains, token by token and by author, and what is wrong with its masks.

    coa doctor set=coa tokenizer=Qwen/Qwen2.5-7B-Instruct
    coa doctor set=data/export/tokenized tokenizer=... json=doctor.json
    coa doctor set=rows.jsonl tokenizer=... chat_template=training.jinja

Rows are those of this project's sets, messages, or finished token ids with labels or a mask. Exit
status: 0 where nothing was found, 1 for findings or an error.
docs/protocol.md explains every fault.
"""

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console

from coa.doctor.examine import Doctor
from coa.doctor.report import JSON_KEYS, Summary, as_json, as_tables, in_colour
from coa.doctor.rows import Readers, masked_rows
from coa.doctor.set_rows import student_prompt
from coa.doctor.settings import DoctorParams
from coa.doctor.tags import folded_tags, own_tags, tools_in
from coa.errors import ConfigError, InputError
from coa.policy.local.model import load_tokenizer
from coa.settings.params import Params
from coa.store.output_file import check_own_json
from coa.store.whole_files import write_file


def examine_all(sections: Params) -> Summary:
    """Examine every row that the section `doctor` names.

    Raises:
        ConfigError: a setting is missing or unknown.
        InputError: a file is missing or cannot be read, or holds no row.
    """
    params = sections.section(DoctorParams)
    if params.json:
        check_own_json(Path(params.json), JSON_KEYS)
    for name in ("set", "tokenizer"):
        if not getattr(params, name):
            raise ConfigError(f"doctor.{name} is empty", expected=f"{name}=..., see --help")
    tokenizer = load_tokenizer(params.tokenizer)
    doctor = Doctor.of(tokenizer, params.max_tokens)
    readers = Readers.of(
        tokenizer,
        chat_template=_template(params.chat_template),
        prompt_end=params.prompt_end,
        prompt=student_prompt(sections, tokenizer),
    )
    summary = Summary(wanted=params.show)
    has_own_tags = False
    tools: set[str] = set()
    for row in islice(masked_rows(params.set, readers), params.max_rows or None):
        examined = doctor.examine(row)
        summary.add(examined)
        if row.in_own_tags:
            has_own_tags = True
            tools |= tools_in("".join(piece.text for piece in examined.pieces))
    if summary.num_rows == 0:
        raise InputError("there is no row to examine", where=params.set)
    if has_own_tags:
        for finding in folded_tags(own_tags(tools), doctor.encoder):
            summary.add_of_tokenizer(finding)
    return summary


def _template(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the chat template {path}", where="doctor.chat_template", got=error
        ) from error


def main(arguments: Sequence[str]) -> str:
    """Examine a set and print what was found; return the summary line of a clean one.

    Raises:
        InputError: there are findings, or a file cannot be read.
    """
    sections = Params.load("doctor", arguments)
    params = sections.section(DoctorParams)
    summary = examine_all(sections)
    console = Console()
    if summary.shown is not None:
        console.print(in_colour(summary.shown), soft_wrap=True)
    console.print(as_tables(summary))
    if params.json:
        write_file(Path(params.json), as_json(summary))
    if summary.has_faults:
        raise InputError(
            f"{summary.num_rows - summary.num_clean:,} of {summary.num_rows:,} rows have findings",
            where=params.set,
            got=", ".join(summary.rows_by_fault),
            fix="docs/protocol.md says what each one means; json=FILE lists the rows",
        )
    return f"clean: {summary.num_rows:,} rows of {params.set}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
