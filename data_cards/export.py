"""Write the sets for other trainers, in the formats that `format` names.

    coa export
    coa export format=[trl_messages,verl_sft]
    coa export tokenizer=Qwen/Qwen2.5-7B-Instruct

Writes a folder for each family of formats below data/export/, and data/export/README.md, which says
how each format is loaded and what it loses (data_cards/formats/registry.py). Only sets that were
built are written, or those of them that `sets` names.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.errors import InputError
from coa.policy.prompts import Prompt
from coa.records.sets import AssembleParams
from coa.records.tokens import Tokenizer
from coa.settings.outputs import check_place
from coa.settings.params import Params
from coa.store.output_folder import OwnFolder, replace_folder
from data_cards.catalogue import SetName, built_sets, published_splits
from data_cards.formats.published_rows import write_rows
from data_cards.formats.registry import (
    FORMATS,
    HEADING,
    README,
    ExportFormat,
    Target,
    own_files,
    readme,
)
from data_cards.formats.sharegpt import describe
from data_cards.formats.source import Source
from data_cards.formats.tokenised import write_tokenised

OWN_FOLDER = OwnFolder("coa export", README, own_files(), mark=HEADING)


@dataclass(frozen=True, slots=True)
class ExportParams:
    """What other trainers are given."""

    sets: tuple[SetName, ...] = ()
    """The sets to write; empty: all that were built."""
    format: tuple[ExportFormat, ...] = (ExportFormat.LLAMAFACTORY, ExportFormat.VERL_RL)
    """The formats to write: llamafactory, llamafactory_calls, trl_messages, trl_completion,
    trl_preference, trl_tokenized, trl_prompts, verl_rl, verl_sft, atif, adp."""
    out: str = "data/export"
    """The folder to write: a new one, or one that this command made, which is replaced."""
    prompt: str = "synth/prompts/coa.txt"
    """The prompt that the model is asked with, whatever its teacher was asked with."""
    tokenizer: str = ""
    """A folder or a name on the Hub, for token ids; empty: llamafactory/ has none."""
    chat_template: str = "{prompt}\n\n"
    """The text around `{prompt}` in token ids and in TRL's texts, up to where the model's own text
    begins.

    Elsewhere the trainer's own template holds.
    """
    max_tokens: int = 8192
    """Longer rows are left out of the token ids, and named in tokenized_left_out.jsonl."""


def main(arguments: Sequence[str]) -> str:
    """Export the sets and return the summary line."""
    settings = Params.load("export", arguments)
    params = settings.section(ExportParams)
    names = chosen_sets(params, built_sets(settings.section(AssembleParams, "assemble")))
    check_place(params.out, "data_cards.export")
    out = Path(params.out)
    with replace_folder(out, OWN_FOLDER) as folder:
        counts = write_all(folder, names, params)
    sizes = [f"{count:,} {name}" for name, count in counts.items()]
    return f"{out}: {', '.join(sizes)}"


def chosen_sets(params: ExportParams, built: Sequence[SetName]) -> list[SetName]:
    """Choose the sets to write, in their order.

    Raises:
        InputError: no set was built, or one that is asked for was not.
    """
    wanted = params.sets or built
    missing = [name for name in wanted if name not in built]
    if missing or not built:
        raise InputError(
            f"the set '{missing[0]}' was not built" if missing else "no set was built",
            where="export.sets",
            expected=f"of the sets of this run: {', '.join(built) or 'none'}",
            fix="see section `assemble` and the last line of coa assemble",
        )
    return [name for name in built if name in wanted]


def write_all(folder: Path, names: Sequence[SetName], params: ExportParams) -> dict[str, int]:
    """Write every format into an empty folder and return the number of rows by file."""
    tokenizer: Tokenizer | None = None
    if params.tokenizer:
        from coa.policy.local.model import load_tokenizer

        tokenizer = load_tokenizer(params.tokenizer)
    path = Path(params.prompt)
    source = Source(
        names=names,
        prompt=Prompt.load(path, params.chat_template),
        plain_prompt=Prompt.load(path, "{prompt}"),
        tokenizer=tokenizer,
        max_tokens=params.max_tokens,
    )
    counts: dict[str, int] = {}
    formats = [name for name in ExportFormat if name in params.format]
    for name in formats:
        counts |= _write_files(folder, FORMATS[name], source)
        if name is ExportFormat.LLAMAFACTORY and source.tokenizer is not None:
            counts |= write_tokenised(folder / "llamafactory", source)
        elif name is ExportFormat.TRL_TOKENIZED:
            counts |= write_tokenised(folder / "trl", source)
    describe(folder / "llamafactory")
    splits = {name: published_splits(name) for name in names}
    (folder / README).write_text(readme(formats, splits), encoding="utf-8")
    return {file: count for file, count in counts.items() if count}


def _write_files(folder: Path, target: Target, source: Source) -> dict[str, int]:
    """Write the sets that a format can hold and return the number of rows by file.

    A split without rows has no file: loaders refuse an empty one.
    """
    counts: dict[str, int] = {}
    for name in source.names:
        if target.table is None or name not in target.sets:
            continue
        table = target.table(source, name)
        for split in published_splits(name):
            file = target.path.format(name=name, split=split)
            path = folder / file
            stem = file.rpartition(".")[0]
            if table.schema is not None:
                counts[stem] = write_rows(path, table.schema, table.rows(split))
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            counts[stem] = 0
            with path.open("w", encoding="utf-8") as lines:
                for row in table.rows(split):
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                    counts[stem] += 1
    return counts


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
